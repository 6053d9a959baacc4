"""Simulated processes: the real code of an aux server and of a master, wired to the simulated seams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from aux.incarnation import Incarnation, NodeEnvironment, NodeSpec, leaving_key
from aux.node.node import Node
from aux.snapshots.options import SnapshotOptions, SnapshotSetup
from ringmaster.cluster.registration import node_key
from ringmaster.cluster.time_agreement import join_cluster_time
from ringmaster.cluster.view import NodeInfo
from ringmaster.coordinator import Commit
from ringmaster.coordinator.cluster_record import ClusterRecord
from ringmaster.errors import CoordinatorUnavailable, DuplicateId, SettingsError
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.sim.coordinator import SimCoordinator
from tests.sim.liveness import SimLiveness
from tests.sim.loop import NodeLoop, SimClock
from tests.sim.losses import INTERVAL_S
from tests.sim.network import NodeNetwork

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

DRAIN_TIMEOUT_S = 8.0
SEAL_S = 5.0


class Process:
    """One process from start to death. `name` is its id; a restart is another Process with the same name."""

    kind = ""

    def __init__(self, cluster: Cluster, name: str, rate: float) -> None:
        self.cluster = cluster
        self.name = name
        self.boot = cluster.boot_of(name)
        self.loop = NodeLoop(cluster.hub, name, rate=rate, boot_s=self.boot.began_s)
        self.loop.wall_offset_s = cluster.wall_offset_s(name)
        self.clock = ClusterClock(SimClock(self.loop))
        self.network = NodeNetwork(cluster.network, self.loop)
        self.coordinator = SimCoordinator(cluster.store, self.loop)
        self.liveness = SimLiveness(cluster.locks, self.loop)
        self.exited = False
        self.on_exit: Callable[[], None] = lambda: None
        self._stop: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} {self.loop!r}>"

    @property
    def alive(self) -> bool:
        return not self.exited and not self.loop.crashed

    def start(self) -> None:
        """Begin `main` on the process's own loop."""
        self.loop.call_soon(self._begin)

    def stop(self) -> None:
        """SIGTERM."""
        self.loop.enter(self._told_to_stop)

    async def main(self, stop: asyncio.Event) -> None:
        """The process, until it ends by itself or `stop` is set."""
        raise NotImplementedError

    def _begin(self) -> None:
        self._stop = asyncio.Event()
        task = self.loop.create_task(self.main(self._stop), name=f"{self.name}-main")
        task.add_done_callback(self._ended)

    def _told_to_stop(self) -> None:
        if self._stop is not None:
            self._stop.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """`main` ended: the process exits, and its kernel closes what it had open."""
        if self.loop.crashed:
            return
        error = None if task.cancelled() else task.exception()
        if isinstance(error, (DuplicateId, SettingsError)):
            self.cluster.hub.trace(self.name, f"exits: {error}")
        elif error is not None:
            self.loop.call_exception_handler({"message": "process died", "exception": error})
        self.exited = True
        self.loop.crash()
        self.cluster.network.crashed(self.loop, noticed=True)
        self.on_exit()


class AuxProcess(Process):
    """What `aux.app.AuxProcess` does, one incarnation after another, without signals and files."""

    kind = "aux"

    def __init__(
        self, cluster: Cluster, name: str, rate: float, *, weight: float, port: int
    ) -> None:
        super().__init__(cluster, name, rate)
        self._weight = weight
        self._port = port
        self._snapshots = (
            SnapshotSetup(
                cluster.volume.store,
                cluster.volume.threads(self.loop),
                SnapshotOptions(interval_s=INTERVAL_S),
            )
            if cluster.plan.snapshots
            else None
        )
        self.incarnation: Incarnation | None = None

    @property
    def node(self) -> Node | None:
        """The node of the present incarnation."""
        return None if self.incarnation is None else self.incarnation.node

    async def main(self, stop: asyncio.Event) -> None:
        cluster = self.cluster
        await join_cluster_time(self.coordinator, self.clock, self.boot.id, stop)
        record = ClusterRecord(cluster.id, "", cluster.plan.partitions, 0.0)
        environment = NodeEnvironment(
            self.clock, self.network, self.coordinator, self.liveness, record, self._snapshots
        )
        address = f"{self.name}:{self._port}"
        info = NodeInfo(
            id=self.name,
            incarnation="",
            address=address,
            weight=self._weight,
            max_bytes=cluster.max_bytes,
        )
        while not stop.is_set():
            incarnation = Incarnation(NodeSpec(info, address), environment)
            cluster.watch(self, incarnation)
            await incarnation.start()
            self.incarnation = incarnation
            cluster.registered(self)
            await self._live(incarnation, stop, environment)

    async def _live(
        self, incarnation: Incarnation, stop: asyncio.Event, environment: NodeEnvironment
    ) -> None:
        waiting = asyncio.get_running_loop().create_task(stop.wait())
        try:
            await asyncio.wait([waiting, incarnation.ended], return_when=asyncio.FIRST_COMPLETED)
            drained = not incarnation.ended.done() and await incarnation.drain(DRAIN_TIMEOUT_S)
            if not drained and not incarnation.ended.done():
                await incarnation.seal(SEAL_S)
            self.incarnation = None
            await incarnation.close(leave=True)
            if stop.is_set():
                await self._sign_off(environment, forget=drained)
            else:
                await asyncio.sleep(0.2)
        finally:
            waiting.cancel()

    async def _sign_off(self, environment: NodeEnvironment, *, forget: bool) -> None:
        if not forget:
            return
        keys = {leaving_key(self.name), node_key(self.name)}
        try:
            await environment.coordinator.commit(Commit(delete=frozenset(keys)), timeout_s=1.0)
        except CoordinatorUnavailable:
            self.cluster.hub.trace(self.name, "could not sign off")
