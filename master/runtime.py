"""A master without its HTTP side: it follows the view, routes, probes, stays registered, and stands for controller.

All I/O goes through its environment, so the simulation runs this very code. HTTP, signals and files are in `app.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import structlog

from master.control.controller import Controller
from master.control.election import Election
from master.control.failure_detector import Prober
from master.control.planning.observation import PlanningSettings
from master.control.view_push import push_view
from ringmaster.cluster.lease import LeaseKeeper
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.process_lock import Liveness
from ringmaster.cluster.registration import (
    MasterRegistration,
    MasterRow,
    master_key,
    register_master,
)
from ringmaster.cluster.view import View, first_view
from ringmaster.cluster.view_follower import ViewFollower
from ringmaster.coordinator import Coordinator
from ringmaster.coordinator.cluster_record import ClusterRecord
from ringmaster.net.network import Network
from ringmaster.routing.links import NodeLink
from ringmaster.routing.retry_budget import RetryPolicy
from ringmaster.routing.router import Router
from ringmaster.runtime.cluster_clock import ClusterClock

STATUS_MAX_AGE_S = 2.0
"""A node whose last status is older counts as unreachable."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MasterEnvironment:
    """Everything that a master needs from outside; the simulation has its own."""

    clock: ClusterClock
    network: Network
    coordinator: Coordinator
    liveness: Liveness
    cluster: ClusterRecord


class MasterRuntime:
    """One master. `row` identifies it; `on_view` is called with each view after it was adopted. `copies_bytes`: see `Router`."""

    def __init__(
        self,
        row: MasterRow,
        planning: PlanningSettings,
        environment: MasterEnvironment,
        on_view: Callable[[View], None] = lambda _: None,
        *,
        stall_s: float = 5.0,
        copies_bytes: int = 0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - a tuple of figures
    ) -> None:
        self._row = row
        self._planning = planning
        self._environment = environment
        self._on_view = on_view
        self._election: Election | None = None
        self._controller: Controller | None = None
        cluster = environment.cluster
        self.router = Router(
            environment.network,
            environment.clock,
            boot_id=environment.liveness.boot_id,
            stall_s=stall_s,
            secret=cluster.secret,
            name=row.id,
            copies_bytes=copies_bytes,
            retry=retry,
        )
        self.view = first_view(cluster.id, cluster.partitions, planning.replicas)
        """The newest view; a first one without nodes until one was published."""
        self.router.adopt(self.view)
        self.prober = Prober(
            environment.clock,
            self._watched_link,
            on_news=self._wake_controller,
            on_progress=self._tell_progress,
            is_eager=lambda: self.is_controller,
        )
        self.follower = ViewFollower(environment.coordinator, cluster.id, self._adopt)
        self.view_since = environment.clock.boottime()
        """Boottime of the last change of the view."""

    @property
    def is_controller(self) -> bool:
        """Whether this master is the controller by the clock read now."""
        return self._election is not None and self._election.is_controller

    def statuses(self) -> Mapping[str, NodeStatus]:
        """The last status of each node that answers."""
        return {
            node: seen.status
            for node, seen in self.prober.statuses().items()
            if seen.age_s <= STATUS_MAX_AGE_S
        }

    async def run(self) -> None:
        """Take part in the cluster until cancelled. Raises `DuplicateId` if a live process has this id."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.follower.run(), name="follower")
                tasks.create_task(self.prober.run(), name="prober")
                tasks.create_task(self.router.events.run(), name="events")
                tasks.create_task(self._stay_registered(), name="registration")
        except BaseExceptionGroup as group:
            # One task failed and the others were cancelled: its error is the reason.
            raise group.exceptions[0] from group

    async def close(self) -> None:
        """Close the links, which fails what is in flight. After `run` has ended."""
        await self.router.close()

    def _watched_link(self, node: str) -> NodeLink | None:
        link = self.router.link_of(node)
        return link if isinstance(link, NodeLink) else None

    def _adopt(self, view: View) -> None:
        self.view = view
        self.view_since = self._environment.clock.boottime()
        self.router.adopt(view)
        self.prober.adopt(view)
        self._on_view(view)

    async def _stay_registered(self) -> None:
        environment = self._environment
        while True:
            registration = await register_master(
                environment.coordinator, environment.liveness, self._row, environment.clock
            )
            try:
                await self._stay_until_revoked(registration)
            finally:
                registration.lock.release()
            _log.warning("this master's row was lost, registering anew", id=self._row.id)

    async def _stay_until_revoked(self, registration: MasterRegistration) -> None:
        """Keep the row and stand for controller until the row is lost or this is cancelled."""
        environment = self._environment
        keeper = LeaseKeeper(
            environment.coordinator,
            environment.clock,
            master_key(self._row.id),
            registration.row.incarnation,
            registration.version,
            lambda number: self._encode_row(registration.row, number),
            lambda: None,
        )
        election, controller = self._stand(registration.row)
        tasks = [
            asyncio.create_task(election.run(), name="election"),
            asyncio.create_task(controller.run(), name="controller"),
        ]
        renewing = asyncio.create_task(keeper.run(), name="master row")
        try:
            await asyncio.wait([*tasks, renewing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, renewing):
                task.cancel()
            results = await asyncio.gather(*tasks, renewing, return_exceptions=True)
            self._election = self._controller = None
            await election.close()
            await keeper.release()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _stand(self, row: MasterRow) -> tuple[Election, Controller]:
        environment = self._environment
        election = Election(
            environment.coordinator,
            environment.liveness,
            environment.clock,
            row,
            self._wake_controller,
        )
        controller = Controller(
            coordinator=environment.coordinator,
            liveness=environment.liveness,
            clock=environment.clock,
            election=election,
            probes=self.prober,
            settings=self._planning,
            cluster=environment.cluster.id,
            partitions=environment.cluster.partitions,
            on_published=self._published,
        )
        self._election, self._controller = election, controller
        return election, controller

    def _wake_controller(self) -> None:
        if self._controller is not None:
            self._controller.wake()

    def _tell_progress(self) -> None:
        if self._controller is not None:
            self._controller.wake(urgent=False)

    def _published(self, before: View, view: View, raw: bytes) -> None:
        """A view was published by this master: adopt it without waiting for the watch, and push it to the nodes."""
        self.follower.offer(view)
        push_view(before, view, raw, self.router.link_of)

    def _encode_row(self, row: MasterRow, number: int) -> bytes:
        """The row at a renewal: with the nodes that are unreachable just then, and the settings that are followed."""
        unreachable = self.prober.unreachable()
        return msgspec.json.encode(
            msgspec.structs.replace(
                row,
                number=number,
                unreachable=unreachable,
                now_ms=self._environment.clock.now_ms(),
                settings=self.view.changed_settings.version,
            )
        )
