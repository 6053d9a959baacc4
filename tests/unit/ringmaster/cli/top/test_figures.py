"""Figures a second from counters, by a clock that the test holds; and what is said to have changed."""

from __future__ import annotations

from typing import Any

import pytest

from ringmaster.cli.top.figures import WINDOW_S, NodeRates, Reading, Watch, changes, rates


def node(name: str = "aux1", incarnation: str = "i1", state: str = "up", **counters: int) -> Any:
    return {"id": name, "incarnation": incarnation, "state": state} | counters


def status(*nodes: Any, **fields: Any) -> dict[str, Any]:
    return {"nodes": list(nodes), "health": "ok", "controller": "master1", **fields}


def test_rates_are_differences_divided_by_time() -> None:
    found = rates(
        [
            Reading(10.0, status(node(hits=100, misses=50, writes=7, evictions=3))),
            Reading(12.0, status(node(hits=160, misses=70, writes=10, evictions=4))),
        ]
    )
    assert found.nodes == {"aux1": NodeRates(reads=40.0, writes=1.5, evictions=0.5, hit_ratio=0.75)}
    assert found.total == found.nodes["aux1"]


def test_the_total_is_of_all_nodes() -> None:
    found = rates(
        [
            Reading(0.0, status(node("a", hits=0), node("b", hits=0, misses=0))),
            Reading(1.0, status(node("a", hits=30), node("b", hits=0, misses=10))),
        ]
    )
    assert found.total == NodeRates(reads=40.0, writes=0.0, evictions=0.0, hit_ratio=0.75)


def test_without_reads_there_is_no_ratio() -> None:
    found = rates([Reading(0.0, status(node(hits=5))), Reading(1.0, status(node(hits=5)))])
    assert found.nodes["aux1"] == NodeRates(0.0, 0.0, 0.0, None)


@pytest.mark.parametrize("readings", [[], [Reading(1.0, status(node(hits=9)))]])
def test_one_reading_tells_nothing(readings: list[Reading]) -> None:
    found = rates(readings)
    assert (found.nodes, found.total, found.moved_bytes) == ({}, None, 0.0)


def test_two_readings_of_the_same_moment_tell_nothing() -> None:
    assert rates([Reading(1.0, status(node())), Reading(1.0, status(node(hits=9)))]).nodes == {}


def test_a_node_that_was_started_again_counts_from_its_first_reading() -> None:
    found = rates(
        [
            Reading(0.0, status(node(incarnation="old", hits=1000))),
            Reading(1.0, status(node(incarnation="new", hits=10))),
            Reading(3.0, status(node(incarnation="new", hits=30))),
        ]
    )
    assert found.nodes["aux1"].reads == 10.0


def test_a_counter_that_seems_to_go_back_stands_still() -> None:
    found = rates([Reading(0.0, status(node(hits=20))), Reading(1.0, status(node(hits=19)))])
    assert found.nodes["aux1"].reads == 0.0


def test_what_moves_is_counted_over_the_whole_window() -> None:
    found = rates(
        [
            Reading(0.0, status(rebalance={"moved_bytes": 1000})),
            Reading(4.0, status(rebalance={"moved_bytes": 9000})),
        ]
    )
    assert found.moved_bytes == 2000.0


def test_the_window_slides() -> None:
    watch = Watch()
    for second in range(20):
        watch.observe(Reading(float(second), status(node(hits=second**2))), "")
    # 19² − 14², over 5 s.
    assert watch.rates().nodes["aux1"].reads == (19**2 - 14**2) / WINDOW_S


def test_after_a_long_pause_there_still_are_rates() -> None:
    watch = Watch()
    watch.observe(Reading(0.0, status(node(hits=0))), "")
    watch.observe(Reading(100.0, status(node(hits=500))), "")
    assert watch.rates().nodes["aux1"].reads == 5.0


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (status(node()), status(node(state="down")), ["aux1 up -> down"]),
        (status(node()), status(node(incarnation="i2")), ["aux1 was started again"]),
        (status(), status(node()), ["aux1 joined, up"]),
        (status(node()), status(), ["aux1 was forgotten"]),
        (status(), status(controller="master2"), ["controller master1 -> master2"]),
        (status(), status(controller=None), ["controller master1 -> none"]),
        (
            status(masters=[{"id": "m1"}]),
            status(masters=[{"id": "m2"}]),
            ["m2 came up", "m1 is gone"],
        ),
        (status(), status(health="degraded"), ["health ok -> degraded"]),
        (status(eviction="lru"), status(eviction="adaptive"), ["eviction lru -> adaptive"]),
        (status(), status(rebalance={"active": True}), ["copies move"]),
        (status(rebalance={"active": True}), status(), ["nothing moves any more"]),
        (status(node(hits=1), epoch=1), status(node(hits=2), epoch=2), []),
    ],
)
def test_changes_are_told(before: Any, after: Any, said: list[str]) -> None:
    assert list(changes(before, after)) == said


def test_an_outage_is_told_once_with_its_end() -> None:
    watch = Watch()
    watch.observe(Reading(0.0, status()), "12:00:00")
    watch.lose("cannot reach it", "12:00:01")
    watch.lose("still not", "12:00:02")
    assert watch.problem == "still not"
    assert watch.latest is not None
    watch.observe(Reading(3.0, status()), "12:00:03")
    assert watch.problem == ""
    assert list(watch.changes) == [
        ("12:00:03", "the cluster answers again"),
        ("12:00:01", "the cluster does not answer"),
    ]
