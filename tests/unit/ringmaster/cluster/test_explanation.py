"""Why a key is not there, from what several nodes remember."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringmaster.cluster.evictions import EvictionCount, NodeEvictions, most_evicted
from ringmaster.cluster.explanation import (
    STATES,
    Explanation,
    NodeMemory,
    Removal,
    explain,
)

T = 1_790_000_000_000


def memory(name: str, *removals: Removal, **more: object) -> NodeMemory:
    fields: dict[str, object] = {"since_ms": T, "remembers_ms": T, **more}
    return NodeMemory(id=name, removals=list(removals), **fields)  # type: ignore[arg-type]


def found(
    *memories: NodeMemory, is_shown: Callable[[str], bool] = lambda _: True, **silent: None
) -> Explanation:
    known: dict[str, NodeMemory | None] = {each.id: each for each in memories}
    explanation = explain(known | silent, "a", is_shown)
    assert explanation.state in STATES
    return explanation


@pytest.mark.parametrize(
    ("removal", "state", "by", "says"),
    [
        (
            Removal("expired", T),
            "expired",
            "",
            "Its time to live ended at 2026-09-21T14:13:20.000Z.",
        ),
        (Removal("evicted", T, "user/"), "evicted", "user/", "a key that begins with user/"),
        (Removal("evicted", T), "evicted", "", "less room"),
        (Removal("evicted-for-copy", T, "aux2"), "evicted", "", "its copy was on aux2"),
        (Removal("deleted", T, "app"), "deleted", "app", "the token app"),
        (Removal("deleted", T), "deleted", "HTTP", "over HTTP"),
        (Removal("deleted-by-redis", T), "deleted", "Redis", "a Redis command"),
        (Removal("invalidated", T, "x"), "invalidated", "x", "the tag x was invalidated"),
        (Removal("invalidated", T), "invalidated", "", "one of its tags"),
        (Removal("removed", T), "unknown", "", "was primary then"),
        (Removal("of a later version", T), "unknown", "", "was removed"),
    ],
)
def test_each_reason_is_told(removal: Removal, state: str, by: str, says: str) -> None:
    explanation = found(memory("a", removal))
    assert explanation[:3] == (state, T, by)
    assert says in explanation.detail


def test_what_happened_last_counts_whoever_knows_of_it() -> None:
    earlier, later = Removal("deleted", T, "app"), Removal("expired", T + 60_000)
    assert found(memory("a", earlier), memory("b", later)).state == "expired"
    assert found(memory("a", later), memory("b", earlier)).state == "expired"


def test_what_the_primary_still_has_dead_is_newer_than_what_anybody_remembers() -> None:
    dead, removal = Removal("invalidated", T, "x"), Removal("expired", T + 900)
    assert found(memory("a", removal, dead=dead)).state == "invalidated"
    assert found(memory("a", removal), memory("b", dead=dead)).state == "expired"


def test_of_one_node_what_it_noted_last_counts_whatever_its_time_says() -> None:
    removals = Removal("deleted", T), Removal("expired", T + 100)
    assert found(memory("a", *removals)).state == "deleted"


def test_of_one_removal_the_primary_knows_best() -> None:
    deleted = memory("a", Removal("deleted", T), Removal("invalidated", T))
    copy = memory("b", Removal("removed", T + 150), Removal("invalidated", T + 100))
    assert found(deleted, copy).state == "deleted"
    assert found(deleted, memory("b", Removal("expired", T + 100))).state == "deleted"


def test_a_copy_that_was_told_no_reason_leaves_it_to_the_one_that_knows() -> None:
    copy, primary = Removal("removed", T + 100), Removal("evicted", T, "x/")
    assert found(memory("a", copy), memory("b", primary)).state == "evicted"
    later = Removal("removed", T + 60_000)
    assert found(memory("a", later), memory("b", primary)).state == "unknown"


def test_a_prefix_that_may_not_be_read_is_not_named() -> None:
    explanation = found(memory("a", Removal("evicted", T, "secret/")), is_shown=lambda _: False)
    assert explanation[:3] == ("evicted", T, "")
    assert "secret" not in explanation.detail
    assert "another key" in explanation.detail


def test_a_loss_is_told_with_what_came_back_and_what_was_before() -> None:
    lost = {"lost_ms": T + 5}
    assert "came back empty" in found(memory("a", **lost)).detail
    explanation = found(memory("a", Removal("deleted", T), **lost, snapshot_ms=T))
    assert explanation[:3] == ("lost", T + 5, "")
    assert "as it had been at 2026-09-21T14:13:20.000Z" in explanation.detail
    assert "the key was deleted" in explanation.detail
    assert found(memory("a", Removal("deleted", T + 6), **lost)).state == "deleted"


def test_what_came_back_whole_is_no_loss() -> None:
    explanation = found(memory("a", lost_ms=T, snapshot_ms=T, is_whole=True))
    assert explanation.state == "unknown"
    assert "none of the snapshots" in explanation.detail


def test_where_nothing_is_known_it_says_since_when_and_why() -> None:
    assert found(memory("a", is_new=True)).detail.startswith("It was never written")
    assert "only since then" in found(memory("a")).detail
    assert "forgotten" in found(memory("a", remembers_ms=T + 1, is_new=True)).detail
    assert "No node knows" in found().detail
    assert "b has its partition" in found(memory("a", since_ms=0), memory("b")).detail


def test_who_did_not_answer_is_named_where_nothing_better_is_known() -> None:
    assert "b did not answer" in found(memory("a"), b=None).detail


def test_evictions_of_all_nodes_are_added_up() -> None:
    answers = {
        "a": NodeEvictions(T, 5, [EvictionCount("x/", "y/", 3), EvictionCount("y/", None, 2)]),
        "b": NodeEvictions(T, 4, [EvictionCount("x/", "y/", 4)]),
        "c": None,
    }
    assert most_evicted(answers, 10, lambda _: True) == [
        EvictionCount("x/", "y/", 7),
        EvictionCount("y/", None, 2),
    ]
    assert len(most_evicted(answers, 1, lambda _: True)) == 1


def test_evictions_of_hidden_prefixes_are_left_out_and_hidden_writers_not_named() -> None:
    rows = [
        EvictionCount("x/", "y/", 3),
        EvictionCount("y/", "x/", 2),
        EvictionCount("x/", None, 1),
    ]
    shown = most_evicted({"a": NodeEvictions(T, 6, rows)}, 10, lambda prefix: prefix == "x/")
    assert shown == [EvictionCount("x/", None, 4)]
