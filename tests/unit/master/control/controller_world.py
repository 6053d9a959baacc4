"""A controller with a coordinator and nodes, for its tests; nothing here reads a clock of the machine."""

from __future__ import annotations

from collections import Counter

from master.control.controller import Controller
from master.control.planning.observation import PlanningSettings
from ringmaster.cluster.view import View
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.fakes.cluster import FakeClock, FakeLiveness, FakeNodes
from tests.fakes.coordinator import MemoryCoordinator


class FakeElection:
    def __init__(self) -> None:
        self.is_controller = True


class World:
    """A controller, a coordinator and nodes; time moves by hand."""

    def __init__(self, replicas: int = 2, partitions: int = 16) -> None:
        self.clock = FakeClock()
        self.coordinator = MemoryCoordinator()
        self.liveness = FakeLiveness()
        self.nodes = FakeNodes(self.coordinator, self.liveness)
        self.election = FakeElection()
        self.published: list[View] = []
        self.settings = PlanningSettings(replicas=replicas)
        self.partitions = partitions
        self.controller = self.another_controller()

    def another_controller(self) -> Controller:
        return Controller(
            coordinator=self.coordinator,
            liveness=self.liveness,
            clock=ClusterClock(self.clock),
            election=self.election,  # type: ignore[arg-type]
            probes=self.nodes,
            settings=self.settings,
            cluster="c" * 32,
            partitions=self.partitions,
            on_published=lambda before, view, raw: self.published.append(view),
        )

    async def cycle(self) -> None:
        """One wake-up: cycles until there is nothing more to do at once."""
        for _ in range(20):
            if not await self.controller.cycle():
                return

    async def run(self, seconds: float) -> None:
        until = self.clock.now + seconds
        tick = 0
        while self.clock.now < until:
            if tick % 5 == 0:
                self.nodes.renew()
            await self.cycle()
            self.clock.now += 0.1
            tick += 1

    @property
    def view(self) -> View:
        assert self.nodes.view is not None
        return self.nodes.view

    def holders(self) -> Counter[str]:
        return Counter(node for row in self.view.table for node in row.in_sync)


async def three_nodes() -> World:
    world = World()
    for node in ("aux1", "aux2", "aux3"):
        world.nodes.start(node)
    await world.run(3.0)
    assert all(len(row.in_sync) == 2 for row in world.view.table)
    return world
