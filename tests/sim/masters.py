"""A simulated master: the real router, follower, health prober and controller on one loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from master.controller import Controller, push_view
from master.election import Election
from master.health import Prober
from master.observation import PlanningSettings
from master.router import Router
from ringmaster.coordinator import Commit
from ringmaster.coordinator.cluster import ClusterRecord
from ringmaster.follower import ViewFollower
from ringmaster.lease import LeaseKeeper
from ringmaster.registration import MasterRow, master_key, register_master
from ringmaster.view import View
from tests.sim.coordinator import CoordinatorStore
from tests.sim.liveness import BOOT_ID
from tests.sim.processes import Process

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

SOLE_COPY_WAIT_S = 8.0
"""Shorter than by default, so that a run sees the end of it; longer than any freeze."""


class MasterProcess(Process):
    """What `master.app` does, without HTTP, signals and files."""

    kind = "master"

    def __init__(self, cluster: Cluster, name: str, rate: float) -> None:
        super().__init__(cluster, name, rate)
        self.router: Router | None = None
        self.ready: asyncio.Future[Router] = self.loop.create_future()

    @staticmethod
    def prepare(store: CoordinatorStore, record: ClusterRecord) -> None:
        """What the first process of a cluster writes."""
        store.commit(Commit(put={"cluster": msgspec.json.encode(record)}))

    async def main(self, stop: asyncio.Event) -> None:
        cluster, jitter = self.cluster, self.cluster.hub.random.random
        router = Router(self.network, self.clock, boot_id=BOOT_ID, jitter=jitter)
        prober = Prober(self.clock, router.link_of)

        def adopt(view: View) -> None:
            router.adopt(view)
            prober.adopt(view)

        follower = ViewFollower(self.coordinator, self.clock, cluster.id, adopt)
        self.router = router
        self.ready.set_result(router)
        following = asyncio.get_running_loop().create_task(follower.run())
        registration = await register_master(
            self.coordinator,
            self.liveness,
            MasterRow(id=self.name, address=f"{self.name}:8001"),
            self.clock,
        )
        me = registration.row

        def encode(number: int) -> bytes:
            row = msgspec.structs.replace(me, number=number, unreachable=prober.unreachable())
            return msgspec.json.encode(row)

        keeper = LeaseKeeper(
            self.coordinator,
            self.clock,
            master_key(self.name),
            me.incarnation,
            registration.version,
            encode,
            lambda: None,
        )
        elected = asyncio.Event()
        election = Election(self.coordinator, self.liveness, self.clock, me, elected.set)

        def published(view: View, raw: bytes) -> None:
            follower.offer(view)
            push_view(view, raw, router.link_of)

        controller = Controller(
            coordinator=self.coordinator,
            liveness=self.liveness,
            clock=self.clock,
            election=election,
            probes=prober,
            settings=PlanningSettings(
                replicas=cluster.plan.replicas, sole_copy_wait_s=SOLE_COPY_WAIT_S
            ),
            cluster=cluster.id,
            partitions=cluster.plan.partitions,
            on_published=published,
        )
        prober.on_news = controller.wake
        async with asyncio.TaskGroup() as group:
            work = (
                keeper.run(),
                election.run(),
                prober.run(),
                controller.run(),
                _wake_when(elected, controller),
            )
            tasks = [following, *(group.create_task(each) for each in work)]
            await stop.wait()
            for task in tasks:
                task.cancel()
        await election.close()
        await keeper.release()
        await router.close()
        registration.lock.release()


async def _wake_when(elected: asyncio.Event, controller: Controller) -> None:
    while True:
        await elected.wait()
        elected.clear()
        controller.wake()
