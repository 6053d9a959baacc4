import msgspec

from master.api.summary import summarize, unready
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import Filling, NodeInfo, Partition, View
from tests.fakes.master import healthy_view, status_of


def statuses(view: View) -> dict[str, NodeStatus]:
    return {node.id: status_of(node) for node in view.nodes.values()}


def changed(view: View, **fields: object) -> View:
    return msgspec.structs.replace(view, **fields)


def with_node(view: View, node: str, **fields: object) -> View:
    info: NodeInfo = msgspec.structs.replace(view.nodes[node], **fields)
    return changed(view, nodes={**view.nodes, node: info})


def health(
    view: View,
    known: dict[str, NodeStatus],
    *,
    available: bool = True,
    controller: str | None = "master1",
    eta_s: float | None = None,
) -> tuple[str, list[str]]:
    summary = summarize(
        view,
        known,
        masters=(),
        controller=controller,
        coordinator_available=available,
        eta_s=eta_s,
    )
    return summary.health, summary.reasons


def test_a_healthy_cluster_is_ok_and_ready() -> None:
    view = healthy_view()
    assert health(view, statuses(view)) == ("ok", [])
    assert unready(view, statuses(view)) == []


def test_nodes_are_counted_and_described() -> None:
    view = healthy_view()
    summary = summarize(
        view, statuses(view), masters=(), controller="m", coordinator_available=True, eta_s=None
    )
    first = summary.nodes[0]
    assert (first.id, first.primaries, first.replicas, first.filling) == ("aux1", 4, 4, 0)
    assert (first.entries, first.hits, first.max_bytes) == (3, 2, 1000)
    assert (summary.controller, summary.partitions, summary.rebalance.active) == ("m", 8, False)


def test_a_missing_primary_is_not_ready() -> None:
    view = healthy_view()
    view = changed(view, table=(Partition(None, (), (), 7), *view.table[1:]))
    assert health(view, statuses(view)) == (
        "recovering",
        ["1 of 8 partitions have no primary"],
    )
    assert unready(view, statuses(view)) == ["1 of 8 partitions have no primary"]


LACKING = Partition("aux1", (), (Filling("aux2", 9),), 7)


def test_copies_that_are_being_made_while_every_node_is_there_are_a_recovery() -> None:
    view = healthy_view()
    view = changed(view, table=(LACKING, *view.table[1:]))
    assert health(view, statuses(view), eta_s=4.4) == (
        "recovering",
        ["7 of 8 partitions have their 2 copies, about 4 s left"],
    )
    assert unready(view, statuses(view)) == []


def test_copies_that_nobody_makes_degrade() -> None:
    view = healthy_view()
    view = changed(view, table=(LACKING, *view.table[1:]))
    assert health(view, statuses(view), controller=None)[0] == "degraded"
    down = with_node(view, "aux2", up=False)
    assert health(down, statuses(view))[0] == "degraded"


def test_fewer_nodes_than_copies_degrade_with_a_sentence_that_says_so() -> None:
    view = healthy_view(replicas=5)
    assert health(view, statuses(view)) == (
        "degraded",
        [
            "5 copies of each partition are wanted, but only 2 nodes take part",
            "0 of 8 partitions have their 5 copies",
        ],
    )


def test_restoring_is_a_recovery_too() -> None:
    view = healthy_view()
    known = statuses(view)
    known["aux1"] = msgspec.structs.replace(known["aux1"], restoring=[0, 2])
    assert health(view, known) == (
        "recovering",
        ["2 partitions are being restored from their snapshots"],
    )


def test_damaged_snapshots_degrade() -> None:
    view = healthy_view()
    known = statuses(view)
    known["aux1"] = msgspec.structs.replace(known["aux1"], snapshot_problems=["it is damaged"])
    assert health(view, known) == ("degraded", ["node aux1: it is damaged"])


def test_a_node_that_is_down_or_silent_degrades() -> None:
    view = healthy_view()
    down = with_node(view, "aux2", up=False)
    assert health(down, statuses(view))[1] == [
        "node aux2 is down; if it is not to come back: ringmaster forget aux2"
    ]
    known = statuses(view)
    del known["aux2"]
    assert health(view, known) == ("degraded", ["node aux2 is unreachable"])
    assert unready(view, known) == ["no answer from aux2"]


def test_the_status_of_another_incarnation_counts_as_none() -> None:
    view = with_node(healthy_view(), "aux2", incarnation="newer")
    assert unready(view, statuses(healthy_view())) == ["no answer from aux2"]


def test_draining_is_a_state_and_no_fault() -> None:
    view = with_node(healthy_view(), "aux1", draining=True)
    summary = summarize(
        view, statuses(view), masters=(), controller=None, coordinator_available=True, eta_s=None
    )
    assert [row.state for row in summary.nodes] == ["draining", "up"]
    assert summary.health == "ok"


def test_a_node_that_drains_and_holds_nothing_is_drained() -> None:
    view = with_node(healthy_view(), "aux1", draining=True)
    rows = (Partition("aux2", (), (), 7),) * 8
    assert states(changed(view, table=rows))["aux1"] == "drained"
    handed_over = (Partition("aux2", (), (), 8, "aux1"), *rows[1:])
    assert states(changed(view, table=handed_over))["aux1"] == "draining"


def states(view: View) -> dict[str, str]:
    summary = summarize(
        view, statuses(view), masters=(), controller=None, coordinator_available=True, eta_s=None
    )
    return {row.id: row.state for row in summary.nodes}


def test_a_node_that_has_left_is_no_fault() -> None:
    view = healthy_view()
    gone = msgspec.structs.replace(view.nodes["aux1"], id="aux3", up=False, left=True)
    view = changed(view, nodes={**view.nodes, "aux3": gone})
    assert states(view)["aux3"] == "left"
    assert health(view, statuses(view)) == ("ok", [])


def test_a_coordinator_outage_degrades() -> None:
    view = healthy_view()
    state, reasons = health(view, statuses(view), available=False)
    assert state == "degraded"
    assert "coordinator" in reasons[0]


def test_nodes_whose_leases_have_lapsed_serve_nothing_although_they_answer() -> None:
    view = healthy_view()
    known = statuses(view)
    known["aux2"] = msgspec.structs.replace(known["aux2"], lease_left_s=-3.0)
    state, reasons = health(view, known)
    assert state == "degraded"
    assert reasons[0].startswith("node aux2 may not serve: its lease is not renewed")
    assert unready(view, known) == ["the leases are not renewed of aux2"]
    known["aux1"] = msgspec.structs.replace(known["aux1"], lease_left_s=0.0)
    assert health(view, known)[0] == "down"


def test_a_cluster_that_serves_nothing_is_down() -> None:
    empty = View(cluster="c" * 32, epoch=0, replicas=2, table=(Partition(),) * 8)
    assert health(empty, {})[0] == "down"
    assert health(healthy_view(), {})[0] == "down"
    assert unready(empty, {})


def test_what_moves_is_counted() -> None:
    view = healthy_view()
    moving = Partition("aux1", (), (Filling("aux2", 8),), 7, "aux2")
    view = changed(view, table=(moving, *view.table[1:]))
    known = statuses(view)
    known["aux1"] = msgspec.structs.replace(known["aux1"], filled_keys=5, filled_bytes=70)
    rebalance = summarize(
        view, known, masters=(), controller=None, coordinator_available=True, eta_s=3.5
    ).rebalance
    assert (rebalance.active, rebalance.moving, rebalance.eta_s) == (True, 2, 3.5)
    assert (rebalance.moved_keys, rebalance.moved_bytes) == (5, 70)
