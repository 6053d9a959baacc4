"""What watches a simulated cluster sees what it is there for."""

from types import SimpleNamespace
from typing import Any, cast

from ringmaster.cluster.node_status import CopyReport, NodeStatus
from ringmaster.cluster.view import Filling, NodeInfo, Partition, View, encode_view
from tests.sim.cluster import Cluster
from tests.sim.history import OK, Operation, Version
from tests.sim.hub import Hub
from tests.sim.invariants import Invariants, Served
from tests.sim.loop import NodeLoop
from tests.sim.volume import Section


class FakeNode:
    """Serves partitions while its lease holds."""

    def __init__(self, invariants: Invariants) -> None:
        self.clock = SimpleNamespace(lease=SimpleNamespace(held_until=0.0))
        self.roles = SimpleNamespace(served=Served(lambda *_: invariants.served_changed()))

    def serve(self, number: int) -> None:
        self.roles.served[b"%d.1" % number] = cast(Any, SimpleNamespace(number=number))


class World:
    """Three nodes, each on a loop of its own, watched before they serve anything, as real ones are."""

    def __init__(self) -> None:
        self.hub = Hub(1)
        cluster = cast(Cluster, SimpleNamespace(hub=self.hub, node=lambda *_: None))
        self.invariants = Invariants(cluster)
        self.loops = [NodeLoop(self.hub, f"a{number}") for number in range(3)]
        self.nodes = [FakeNode(self.invariants) for _ in self.loops]
        for loop, node in zip(self.loops, self.nodes, strict=True):
            self.invariants.watch(loop, cast(Any, node))

    def grant(self, index: int, seconds: float) -> None:
        now = self.loops[index].boottime_at(self.hub.now)
        self.nodes[index].clock.lease.held_until = now + seconds

    def look(self) -> list[str]:
        self.invariants.step()
        return self.hub.failures


def test_two_nodes_that_may_serve_one_partition_are_found() -> None:
    world = World()
    for index in (0, 2):
        world.grant(index, 1.0)
        world.nodes[index].serve(4)
    assert "two nodes may serve one partition" in world.look()[0]


def test_nodes_that_serve_different_partitions_are_fine() -> None:
    world = World()
    for index in (0, 1, 2):
        world.grant(index, 1.0)
        world.nodes[index].serve(index)
    assert world.look() == []


def test_one_whose_lease_has_lapsed_does_not_count_until_it_is_renewed() -> None:
    world = World()
    world.nodes[0].serve(4)
    world.grant(1, 1.0)
    world.nodes[1].serve(4)
    assert world.look() == []
    world.grant(0, 1.0)
    assert world.look() != []


def test_a_dead_process_serves_nothing() -> None:
    world = World()
    for index in (0, 1):
        world.grant(index, 1.0)
        world.nodes[index].serve(4)
    world.loops[0].crash()
    assert world.look() == []


class LostPrimary:
    """The only copy in sync, on a0, is destroyed while a1 is filled; there is a snapshot from before. a0's incarnation is "a0.1"."""

    def __init__(self, *, reported: bool) -> None:
        self.hub = Hub(1)
        section = Section(0, (1, 1), {b"k": b"entry"}, True)
        volume = SimpleNamespace(newest=lambda _: [section], known=lambda *_: [])
        cluster = SimpleNamespace(hub=self.hub, volume=volume, sealing=False, node=lambda *_: None)
        self.invariants = Invariants(cast(Cluster, cluster))
        self.publish(2, Partition("a0", (), (Filling("a1", 2),), 2))
        if reported:
            caught_up = [CopyReport(0, 2, "a1", 2)]
            self.invariants.reported(
                NodeStatus(
                    id="a0", incarnation="a0.1", epoch=2, lease_left_s=1, caught_up=caught_up
                )
            )
        self.invariants.destroyed("a0.1")
        assert self.invariants.losses.pending

    def publish(self, epoch: int, row: Partition) -> None:
        nodes = {
            name: NodeInfo(id=name, incarnation=f"{name}.1", address=name) for name in ("a0", "a1")
        }
        view = View(cluster="c" * 32, epoch=epoch, replicas=2, table=(row,), nodes=nodes)
        self.invariants.stored("view", encode_view(view))

    def serve_empty(self, term: int) -> list[str]:
        data = SimpleNamespace(tags={}, entries={})
        self.invariants.losses.served(
            cast(Any, SimpleNamespace(number=0, term=term, data=data, pending=0, copies={}))
        )
        return self.hub.failures


def test_nothing_was_lost_if_the_last_primary_had_reported_a_copy_that_a_view_then_lists() -> None:
    world = LostPrimary(reported=True)
    world.publish(3, Partition("a0", ("a1",), (), 2))
    assert not world.invariants.losses.pending
    assert world.invariants.losses.all == []
    world.publish(4, Partition("a1", (), (), 4))
    assert world.serve_empty(4) == []


def test_it_was_lost_if_that_copy_was_destroyed_as_well_or_no_view_lists_it() -> None:
    world = LostPrimary(reported=True)
    world.invariants.destroyed("a1.1")
    world.publish(3, Partition("a0", ("a1",), (), 2))
    assert world.invariants.losses.pending
    world = LostPrimary(reported=True)
    world.publish(3, Partition(None, (), (), 2))
    world.publish(4, Partition("a1", (), (), 4))
    assert "began empty" in world.serve_empty(4)[0]


def test_a_copy_that_the_last_primary_had_not_reported_must_not_take_its_place() -> None:
    world = LostPrimary(reported=False)
    world.publish(3, Partition("a0", ("a1",), (), 2))
    assert "was not in sync" in world.hub.failures[0]


class LostCopies:
    """The two copies of partition 0 stood at (2, 5) and (2, 6) when they were destroyed, at 10 s; a2 has it now, empty."""

    def __init__(self) -> None:
        hub = self.hub = Hub(1)
        volume = SimpleNamespace(newest=lambda _: [], known=lambda *_: [])
        self.nodes = {
            "a0": self.node("a0", primaries={0: SimpleNamespace(term=2, seq=6)}),
            "a1": self.node("a1", replicas={0: SimpleNamespace(term=2, seq=5)}),
            "a2": self.node("a2"),
        }
        cluster = SimpleNamespace(
            hub=hub, volume=volume, sealing=False, node=lambda name, _: self.nodes.get(name)
        )
        self.invariants = Invariants(cast(Cluster, cluster))
        for name, node in self.nodes.items():
            self.invariants.watch(NodeLoop(hub, name), cast(Any, node))
        self.publish(2, Partition("a0", ("a1",), (), 2))
        hub.run(10.0)
        for name in ("a0", "a1"):
            del self.nodes[name]
            self.invariants.destroyed(f"{name}.1")
        self.publish(3, Partition(None, (), (), 2))
        self.publish(4, Partition("a2", (), (), 4))

    @staticmethod
    def node(name: str, **roles: Any) -> Any:
        roles = {"primaries": {}, "replicas": {}, **roles}
        return SimpleNamespace(incarnation=f"{name}.1", roles=SimpleNamespace(**roles))

    def publish(self, epoch: int, row: Partition) -> None:
        nodes = {
            name: NodeInfo(id=name, incarnation=f"{name}.1", address=name)
            for name in ("a0", "a1", "a2")
        }
        view = View(cluster="c" * 32, epoch=epoch, replicas=2, table=(row,), nodes=nodes)
        self.invariants.stored("view", encode_view(view))

    def acknowledge(self, version: Version, asked_at: float) -> list[str]:
        put = Operation("c", "put", b"k", asked_at, b"v", outcome=OK, version=version, partition=0)
        self.invariants.acknowledged(put)
        return self.hub.failures


def test_what_every_copy_had_when_all_were_lost_may_be_acknowledged_after_that() -> None:
    assert LostCopies().acknowledge((2, 5), asked_at=9.0) == []


def test_what_a_lost_copy_did_not_have_must_not_be_acknowledged() -> None:
    assert "acknowledged, but" in LostCopies().acknowledge((2, 6), asked_at=9.0)[0]


def test_what_was_asked_for_after_the_loss_must_be_on_the_new_copies() -> None:
    assert "acknowledged, but" in LostCopies().acknowledge((2, 5), asked_at=11.0)[0]
    assert "acknowledged, but" in LostCopies().acknowledge((4, 1), asked_at=9.0)[0]
