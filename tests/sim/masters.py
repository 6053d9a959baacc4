"""A simulated master: the real core of one (router, follower, prober, controller) and its fast path, without aiohttp."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from master.control.planning.observation import PlanningSettings
from master.fastpath.server import FastPath
from master.runtime import MasterEnvironment, MasterRuntime
from ringmaster.cluster.registration import MasterRow
from ringmaster.cluster.time_agreement import join_cluster_time
from ringmaster.coordinator import Commit
from ringmaster.coordinator.cluster_record import ClusterRecord
from ringmaster.routing.retry_budget import RetryPolicy
from ringmaster.routing.router import Router
from tests.sim.coordinator import CoordinatorStore
from tests.sim.front import fast_path
from tests.sim.processes import Process

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

SOLE_COPY_WAIT_S = 8.0
"""Shorter than by default, so that a run sees the end of it; longer than any freeze."""

MAX_MOVE_PAUSE_S = 0.3
"""Shorter than by default: the simulated time is for faults, not for rests."""


COPIES_BYTES = 64 * 1024
RETRY = RetryPolicy(ratio=0.1, floor_per_s=20.0, most=5.0)
"""So little that a few clients use it up."""


class MasterProcess(Process):
    """What `master.app` does, without aiohttp, signals and files."""

    kind = "master"

    def __init__(self, cluster: Cluster, name: str, rate: float) -> None:
        super().__init__(cluster, name, rate)
        self.router: Router | None = None
        self.ready: asyncio.Future[FastPath] = self.loop.create_future()

    @staticmethod
    def prepare(store: CoordinatorStore, record: ClusterRecord) -> None:
        """What the first process of a cluster writes."""
        store.commit(Commit(put={"cluster": msgspec.json.encode(record)}))

    async def main(self, stop: asyncio.Event) -> None:
        plan = self.cluster.plan
        await join_cluster_time(self.coordinator, self.clock, self.boot.id, stop)
        record = ClusterRecord(self.cluster.id, "", plan.partitions, 0.0)
        runtime = MasterRuntime(
            MasterRow(id=self.name, address=f"{self.name}:8001"),
            PlanningSettings(
                replicas=plan.replicas,
                sole_copy_wait_s=SOLE_COPY_WAIT_S,
                max_move_pause_s=MAX_MOVE_PAUSE_S,
            ),
            MasterEnvironment(self.clock, self.network, self.coordinator, self.liveness, record),
            copies_bytes=COPIES_BYTES if plan.copies else 0,
            retry=RETRY,
        )
        self.router = runtime.router
        path = fast_path(runtime.router, self.clock, plan.deadline_s)
        self.ready.set_result(path)
        loop = asyncio.get_running_loop()
        running, stopping = loop.create_task(runtime.run()), loop.create_task(stop.wait())
        sweeping = loop.create_task(path.run())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        running.cancel()
        sweeping.cancel()
        await asyncio.wait([running])
        await runtime.close()
        if not running.cancelled():
            running.result()
