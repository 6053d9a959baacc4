"""What watches a simulated cluster sees what it is there for."""

from types import SimpleNamespace
from typing import Any, cast

from tests.sim.cluster import Cluster
from tests.sim.hub import Hub
from tests.sim.invariants import Invariants, Served
from tests.sim.loop import NodeLoop


class FakeNode:
    """Serves partitions while its lease holds."""

    def __init__(self, invariants: Invariants) -> None:
        self.lease = SimpleNamespace(held_until=0.0)
        self.served = Served(lambda *_: invariants.served_changed())

    def serve(self, number: int) -> None:
        self.served[b"%d.1" % number] = cast(Any, SimpleNamespace(number=number))


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
        self.nodes[index].lease.held_until = now + seconds

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
