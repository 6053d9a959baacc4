"""Epochs continue above the term of any snapshot, also when the coordinator knows less than the volume."""

from dataclasses import replace

import msgspec

from master.control.planning.observation import LeaseSeen, Observation, PlanningSettings, StatusSeen
from master.control.planning.planner import next_view, signature
from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import NodeInfo, Partition, View

INFO = NodeInfo(id="n1", incarnation="inc1", address="x:1")


def seen(status: NodeStatus | None, *rows: Partition) -> Observation:
    view = View(cluster="ab" * 16, epoch=7, replicas=1, table=rows, nodes={"n1": INFO})
    return Observation(
        now=100.0,
        view=view,
        settings=PlanningSettings(replicas=1),
        nodes={"n1": INFO},
        leases={"n1": LeaseSeen(LeaseRow(incarnation="inc1", number=1), 1, 0.1)},
        statuses={} if status is None else {"n1": StatusSeen(status, 0.1)},
        stable_for_s=100.0,
    )


def status(**fields: object) -> NodeStatus:
    known = {"id": "n1", "incarnation": "inc1", "epoch": 7, "lease_left_s": 1.0}
    return msgspec.convert(known | fields, NodeStatus)


LOST = Partition(term=3)
SERVED = Partition("n1", term=5)


def test_a_view_numbers_above_every_snapshot() -> None:
    plan = next_view(seen(status(snapshot_term=40), LOST))
    assert plan is not None
    assert plan.view.epoch == 41
    assert plan.view.table[0].term == 41


def test_without_older_snapshots_the_next_epoch_follows() -> None:
    plan = next_view(seen(status(snapshot_term=4), LOST))
    assert plan is not None
    assert plan.view.epoch == 8


def test_high_snapshots_alone_are_no_reason_for_a_view() -> None:
    assert next_view(seen(status(snapshot_term=40), SERVED)) is None


def test_a_primary_that_cannot_restore_in_its_term_gets_a_higher_one() -> None:
    waiting = seen(status(snapshot_term=40, restoring=[0], awaiting=[0]), SERVED, SERVED)
    plan = next_view(waiting)
    assert plan is not None
    assert [row.term for row in plan.view.table] == [41, 5]
    assert plan.view.table[0].primary == "n1"
    assert signature(waiting) != signature(seen(status(awaiting=[0]), SERVED, SERVED))


def test_a_primary_that_restores_in_a_high_term_is_left_alone() -> None:
    assert next_view(seen(status(snapshot_term=4, restoring=[0], awaiting=[0]), SERVED)) is None


def test_only_an_unproven_death_makes_a_sole_copy_wait() -> None:
    lapsed = {"n1": LeaseSeen(LeaseRow(incarnation="inc1", number=1), 1, 5.0)}
    silent = replace(seen(None, SERVED), leases=lapsed)
    plan = next_view(silent)
    row = SERVED if plan is None else plan.view.table[0]
    assert "n1" in row.in_sync
    proven = next_view(replace(silent, dead=frozenset({"inc1"})))
    assert proven is not None
    assert proven.view.table[0] == Partition(term=5)
    waited = {"n1": LeaseSeen(LeaseRow(incarnation="inc1", number=1), 1, 30.0)}
    given_up = next_view(replace(silent, leases=waited))
    assert given_up is not None
    assert given_up.view.table[0] == Partition(term=5)
