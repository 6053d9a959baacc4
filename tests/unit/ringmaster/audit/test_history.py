"""What a read of a key may show, after every history of its writes: each legal one, and each that is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringmaster.audit.history import History, Verdict

OK, STALE, LOST = Verdict.OK, Verdict.STALE, Verdict.LOST

STEPS = {
    "w": lambda history, value: (history.writing(value), history.wrote(value)),
    "u": lambda history, value: (history.writing(value), history.doubted(value)),
    "n": lambda history, value: (history.writing(value), history.refused(value)),
    "i": lambda history, value: history.writing(value),
    "f": lambda history, _: history.forgive(),
}
"""A write that was acknowledged, is of unknown outcome, was refused, or is in flight; all that is known is void."""


def after(steps: str) -> History:
    """The values of the writes are 1, 2, 3, …"""
    history = History()
    for number, step in enumerate(steps, 1):
        STEPS[step](history, number)
    return history


def shown(history: History, value: int | None) -> Verdict:
    return history.judge(history.reading(), value)


@pytest.mark.parametrize(
    ("steps", "value", "verdict"),
    [
        ("", None, OK),
        ("", 1, STALE),  # nobody wrote it
        ("", 0, STALE),  # no number of ours
        ("w", 1, OK),
        ("w", None, LOST),
        ("w", 0, STALE),
        ("w", 2, STALE),
        ("ww", 2, OK),
        ("ww", 1, STALE),
        ("ww", None, LOST),
        ("wu", 1, OK),  # it was not applied, or not yet
        ("wu", 2, OK),
        ("wu", None, LOST),
        ("wuw", 3, OK),
        ("wuw", 2, OK),  # it was on its way all the time
        ("wuw", 1, STALE),
        ("wuuw", 3, OK),
        ("u", 1, OK),
        ("u", None, OK),
        ("wn", 1, OK),
        ("wn", 2, STALE),
        ("wn", None, LOST),
        ("wi", 1, OK),
        ("wi", 2, OK),
        ("wi", None, LOST),
        ("i", None, OK),
        ("i", 1, OK),
        ("wwf", 1, OK),
        ("wwf", None, OK),
        ("wwfw", 4, OK),
        ("wwfw", 2, STALE),
        ("wwfw", None, LOST),
        ("wwfu", None, OK),
        ("wwfu", 1, OK),
    ],
)
def test_what_a_read_may_show(steps: str, value: int | None, verdict: Verdict) -> None:
    assert shown(after(steps), value) is verdict


def test_a_doubtful_value_that_showed_is_the_one_that_must_show() -> None:
    history = after("wuu")
    assert shown(history, 3) is OK
    assert shown(history, 1) is STALE
    assert shown(history, 2) is OK  # it took effect after the third
    assert shown(history, 3) is STALE


def test_of_a_write_that_ends_during_a_read_old_and_new_are_legal() -> None:
    for value, verdict in ((1, OK), (2, OK), (None, LOST)):
        history = after("w")
        reading = history.reading()
        STEPS["w"](history, 2)
        assert history.judge(reading, value) is verdict
        assert shown(history, 2) is OK
        assert shown(history, 1) is STALE


def test_of_a_write_that_is_refused_during_a_read_only_the_old_value_is_legal() -> None:
    for value, verdict in ((1, OK), (2, STALE)):
        history = after("w")
        reading = history.reading()
        STEPS["n"](history, 2)
        assert history.judge(reading, value) is verdict


def test_a_read_that_began_before_all_was_void_may_show_anything_even_after_the_next_write() -> (
    None
):
    for void_first in (True, False):
        for value in (None, 1, 2):
            history = after("wwf" if void_first else "ww")
            reading = history.reading()
            history.forgive()
            STEPS["w"](history, 3)
            assert history.judge(reading, value) is OK
            assert history.expects


def test_a_read_without_a_reply_says_nothing() -> None:
    history = after("w")
    history.abandon(history.reading())
    assert shown(history, 1) is OK


@given(st.lists(st.sampled_from("wunr"), max_size=30), st.randoms())
def test_a_register_is_never_blamed(steps: list[str], dice: st.DataObject) -> None:
    """What a linearizable register shows is legal, whenever its doubtful writes take effect."""
    history, there = History(), None
    waiting: list[int] = []
    for number, step in enumerate(steps, 1):
        if waiting and dice.random() < 0.3:  # type: ignore[attr-defined]
            there = waiting.pop(dice.randrange(len(waiting)))  # type: ignore[attr-defined]
        if step == "r":
            assert shown(history, there) is OK
            continue
        STEPS[step](history, number)
        if step == "w":
            there = number
        elif step == "u":
            waiting.append(number)
