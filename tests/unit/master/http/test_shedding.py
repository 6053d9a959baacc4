"""When a master refuses requests because others wait, and how many it lets in meanwhile; in virtual time."""

from __future__ import annotations

from collections import deque

import pytest

from master.http.shedding import INTERVAL_S, LEAST_WINDOW, TARGET_S, Shedding

LONG_S = 4 * TARGET_S


def interval(
    shedding: Shedding,
    *waits_s: float,
    answered: int = 1000,
    most: int = 500,
    pressed: bool = False,
) -> None:
    """One interval in which requests had waited for so long when they were answered."""
    for wait_s in waits_s:
        shedding.waited(wait_s)
    shedding.close_interval(shedding.ends, answered, most, pressed)


def test_a_queue_that_stands_for_a_whole_interval_is_overload() -> None:
    shedding = Shedding(0.0)
    interval(shedding, LONG_S, 2 * TARGET_S, LONG_S)
    assert shedding.active
    assert shedding.least_wait_s == 2 * TARGET_S


def test_a_burst_is_none_however_large_if_one_request_did_not_wait() -> None:
    shedding = Shedding(0.0)
    interval(shedding, *[100 * TARGET_S] * 50, TARGET_S / 10)
    assert not shedding.active


def test_an_interval_without_answers_says_nothing() -> None:
    shedding = Shedding(0.0)
    interval(shedding, answered=0)
    assert not shedding.active
    interval(shedding, LONG_S)
    interval(shedding, answered=0, pressed=True)
    assert shedding.active
    assert shedding.least_wait_s == LONG_S


def test_the_window_is_what_leaves_within_the_target() -> None:
    shedding = Shedding(0.0)
    interval(shedding, LONG_S, answered=4000)
    assert shedding.window == int(4000 / INTERVAL_S * TARGET_S)


def test_the_window_outlasts_one_slow_interval_and_follows_many() -> None:
    shedding = Shedding(0.0)
    interval(shedding, LONG_S, answered=8000)
    wide = shedding.window
    interval(shedding, LONG_S, answered=4000, pressed=True)
    assert shedding.window == wide
    for _ in range(10):
        interval(shedding, LONG_S, answered=4000, pressed=True)
    assert shedding.window == wide // 2


def test_few_requests_are_let_in_whatever_they_wait_for() -> None:
    shedding = Shedding(0.0)
    interval(shedding, 3.0, answered=1)
    assert shedding.active
    assert shedding.window == LEAST_WINDOW


def test_it_ends_with_the_first_interval_in_which_nobody_is_refused() -> None:
    shedding = Shedding(0.0)
    interval(shedding, LONG_S)
    interval(shedding, TARGET_S, pressed=True)
    assert shedding.active
    interval(shedding, TARGET_S)
    assert not shedding.active


@pytest.mark.parametrize("base_s", [0.004, 0.02])
def test_where_answers_take_long_without_a_queue_the_target_is_longer(base_s: float) -> None:
    shedding = Shedding(0.0)
    for _ in range(100):
        interval(shedding, base_s, most=8)
    assert not shedding.active
    assert shedding.target_s == pytest.approx(3 * base_s)
    interval(shedding, 3.5 * base_s)
    assert shedding.active


def test_the_target_has_a_bound_and_is_not_learnt_under_load() -> None:
    shedding = Shedding(0.0)
    for _ in range(100):
        interval(shedding, 0.5, most=1, pressed=True)
        interval(shedding, 0.5, most=LEAST_WINDOW)
    assert shedding.target_s == TARGET_S
    for _ in range(100):
        interval(shedding, 10.0, most=1)
    assert shedding.target_s == 0.1


def test_a_few_slow_answers_do_not_make_the_target_longer() -> None:
    """As while a cluster starts: what is asked first waits for its node."""
    shedding = Shedding(0.0)
    for _ in range(7):
        interval(shedding, 0.03, most=1)
    assert shedding.target_s == TARGET_S
    assert not shedding.active
    interval(shedding, 0.03)
    assert shedding.active


def test_a_queue_that_no_wait_shows_is_overload_until_nobody_is_refused() -> None:
    shedding = Shedding(0.0)
    interval(shedding, 0.0, answered=4000)
    shedding.begin()
    assert shedding.active
    assert shedding.window == int(4000 / INTERVAL_S * TARGET_S)
    interval(shedding, 0.0, pressed=True)
    assert shedding.active
    interval(shedding, 0.0)
    assert not shedding.active


def test_with_a_target_of_0_nobody_is_ever_refused() -> None:
    shedding = Shedding(0.0, target_s=0.0)
    interval(shedding, 60.0)
    assert not shedding.active


def test_those_who_have_waited_get_only_what_nobody_else_takes() -> None:
    shedding = Shedding(0.0)
    interval(shedding, LONG_S, answered=100_000)
    assert shedding.late(shedding.window, 100_000) == 0
    assert shedding.late(shedding.window - 10, 100_000) == 10
    assert shedding.late(shedding.window - 1000, 100_000) == 800
    assert shedding.late(shedding.window - 10, 10) == 2
    assert shedding.late(100, 10) == shedding.window // 2 - 100


@pytest.mark.parametrize("times", [2, 5, 50])
def test_at_many_times_the_load_all_that_can_be_done_is_done_and_quickly(times: int) -> None:
    """A server that does 50 requests a millisecond, and is asked for so many times that, for three seconds, by 2,000 clients."""
    per_ms, clients = 50, 2000
    now, shedding = 0.0, Shedding(0.0)
    queue: deque[float] = deque()
    waits: list[float] = []
    answered = done = refused = most = 0
    pressed = False
    for _ in range(3000):
        for _ in range(times * per_ms):
            if shedding.active and len(queue) >= shedding.window:
                refused += 1
                pressed = True
            elif len(queue) < clients:
                queue.append(now)
        most = max(most, len(queue))
        now += 0.001
        for _ in range(min(per_ms, len(queue))):
            wait_s = now - queue.popleft()
            shedding.waited(wait_s)
            waits.append(wait_s)
            done += 1
        if now >= shedding.ends:
            shedding.close_interval(now, done - answered, most, pressed)
            answered, most, pressed = done, 0, False
    assert done == 3000 * per_ms
    assert refused > 0.8 * 3000 * (times - 1) * per_ms
    assert max(waits[-1000 * per_ms :]) <= TARGET_S + 0.0011
