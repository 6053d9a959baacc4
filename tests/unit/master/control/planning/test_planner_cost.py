"""When no plan is made because nothing changed, and what one costs when it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from master.control.planning.observation import Observation, PlanningSettings
from master.control.planning.planner import next_view, signature
from master.control.planning.target import choose_target
from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.node_status import CopyReport
from ringmaster.cluster.view import View, first_view
from ringmaster.placement.placement import Method
from tests.unit.master.control.planning.test_planner import LAPSED, info, lease, row, seen, status
from tests.unit.timing import timed


def at_rest() -> Observation:
    return seen(row("a", "b"), row("b", "c"), row("c", "a"))


def test_time_that_passes_and_leases_that_are_renewed_change_nothing() -> None:
    before = at_rest()
    leases = {node: replace(lease(node, 0.4), version=8) for node in "abc"}
    later = replace(
        before, now=before.now + 5.0, leases=leases, stable_for_s=65.0, target=choose_target(before)
    )
    assert signature(later) == signature(before)
    assert next_view(before) is None
    assert next_view(later) is None


CHANGES: dict[str, Callable[[Observation], dict[str, object]]] = {
    "another view": lambda o: {"view": msgspec.structs.replace(o.view, epoch=11)},
    "a node registered": lambda o: {
        "nodes": {**o.nodes, "d": info("d")},
        "leases": {**o.leases, "d": lease("d")},
    },
    "registered anew with another weight": lambda o: {
        "nodes": {**o.nodes, "a": msgspec.structs.replace(o.nodes["a"], weight=2.0)}
    },
    "a lease lapsed": lambda o: {"leases": {**o.leases, "a": lease("a", LAPSED)}},
    "a lease was refused": lambda o: {"leases": {**o.leases, "a": lease("a", refused=True)}},
    "a lease went": lambda o: {"leases": {"b": o.leases["b"], "c": o.leases["c"]}},
    "a lease is another incarnation's": lambda o: {
        "leases": {**o.leases, "a": replace(lease("a"), row=LeaseRow(incarnation="a-2", number=1))}
    },
    "a process is proven dead": lambda _: {"dead": frozenset({"a-1"})},
    "a copy caught up": lambda o: {
        "statuses": {**o.statuses, "a": status("a", caught_up=[CopyReport(0, 5, "c", 9)])}
    },
    "a copy lags": lambda o: {
        "statuses": {**o.statuses, "a": status("a", lagging=[CopyReport(0, 5, "b", 0)])}
    },
    "a node stops": lambda o: {"statuses": {**o.statuses, "a": status("a", stopping=True)}},
    "a node follows a later view": lambda o: {"statuses": {**o.statuses, "a": status("a", 11)}},
    "a node does not answer any more": lambda o: {"statuses": {"b": o.statuses["b"]}},
    "an operator drains a node": lambda _: {"draining": frozenset({"a"})},
    "an operator forgets a node": lambda _: {"forget": frozenset({"a"})},
    "an operator pauses": lambda _: {"paused": True},
    "the membership is not settled": lambda _: {"stable_for_s": 0.5},
    "a node flaps": lambda o: {"losses": {"a": tuple(o.now - n for n in (3.0, 2.0, 1.0))}},
    "more copies are wanted": lambda o: {"settings": replace(o.settings, replicas=3)},
    "another method is wanted": lambda o: {"settings": replace(o.settings, method="rendezvous")},
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_a_plan_may_rest_on_is_a_reason_to_plan_again(name: str) -> None:
    before = at_rest()
    after = replace(before, **CHANGES[name](before))  # type: ignore[arg-type]
    assert signature(after) != signature(before)


NODES = [f"aux{number}" for number in range(20)]


def large(view: View, nodes: list[str], method: Method, dead: tuple[str, ...] = ()) -> Observation:
    return Observation(
        now=1000.0,
        view=view,
        settings=PlanningSettings(method=method),
        nodes={node: info(node) for node in nodes},
        leases={node: lease(node) for node in nodes},
        statuses={node: status(node, view.epoch) for node in nodes},
        stable_for_s=60.0,
        dead=frozenset(dead),
    )


def planned(seen: Observation) -> View:
    """The next view, made within the time for which the loop, and all it serves, may stand still.

    Twenty nodes with 4,096 partitions: 5 to 45 ms of processor time on a busy machine, the target included.
    """
    plan, took = timed(lambda: next_view(seen))
    assert plan is not None
    assert took < 0.15
    return plan.view


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["ring", "rendezvous"])
def test_a_plan_does_not_block_the_loop_noticeably(method: Method) -> None:
    view = first_view("c" * 32, 4096, 2)
    for _ in range(2):  # all nodes join, then they are appointed
        view = planned(large(view, NODES[1:], method))
    assert all(len(row.in_sync) == 2 for row in view.table)
    died = planned(large(view, NODES[2:], method, dead=("aux1-1",)))
    assert not any("aux1" in row.in_sync for row in died.table)
    joined = planned(large(view, NODES, method))
    moving = planned(large(joined, NODES, method))
    assert any(item.node == "aux0" for row in moving.table for item in row.filling)
