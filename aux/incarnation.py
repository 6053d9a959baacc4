"""One incarnation of a node: from its registration until it is void or stopped.

A node that was given up by a view (it hung, or was cut off) begins another one in the same process,
empty, to be filled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from aux.node.node import Node
from aux.node.options import NodeOptions
from aux.server.server import Server
from aux.snapshots.options import SnapshotSetup
from aux.snapshots.service import SnapshotService
from aux.storage.store import Store
from ringmaster.cluster.lease import LeaseKeeper
from ringmaster.cluster.process_lock import HeldLock, Liveness
from ringmaster.cluster.registration import new_incarnation, register
from ringmaster.cluster.runtime_settings import SettingsFollower
from ringmaster.cluster.view import NodeInfo
from ringmaster.cluster.view_follower import ViewCounts, ViewFollower
from ringmaster.config.sources import Started
from ringmaster.coordinator import Commit, Coordinator
from ringmaster.coordinator.cluster_record import STOPPING_KEY, ClusterRecord
from ringmaster.errors import CoordinatorUnavailable, UnknownView
from ringmaster.net.admission import allowed_connections
from ringmaster.net.link import Link
from ringmaster.net.network import Network
from ringmaster.protocol.handshake import handshake
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.runtime.compiled import is_compiled

_DRAIN_POLL_S = 0.1

_log = structlog.get_logger(__name__)


def leaving_key(node_id: str) -> str:
    """The key a node writes while it wants to leave; its value is the incarnation."""
    return f"admin/leaving/{node_id}"


@dataclass(frozen=True, slots=True)
class NodeEnvironment:
    """What an incarnation needs from outside; the simulation gives its own. Without `snapshots` none are kept.

    `views` counts for all incarnations of the process.
    """

    clock: ClusterClock
    network: Network
    coordinator: Coordinator
    liveness: Liveness
    cluster: ClusterRecord
    snapshots: SnapshotSetup | None = None
    views: ViewCounts = field(default_factory=ViewCounts)


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """Who the node is. `info.address` may have port 0; its incarnation is ignored.

    `overhead_bytes`: what the process takes
    before it holds an entry; it counts against `info.max_bytes`. `max_clients`: connections at one time, 0 for no cap. `resident_bytes()`: what it takes now, 0 if not measured.
    `machine_bytes`: memory of the machine or container, 0 if not known. `started`: the settings that may change while it runs; `apply`: what takes on
    those of them that concern the whole process.
    """

    info: NodeInfo
    listen: str
    min_in_sync: int = 1
    fill_bytes_per_s: int = 64 * 1024 * 1024
    overhead_bytes: int = 0
    max_clients: int = 0
    resident_bytes: Callable[[], int] = int
    machine_bytes: int = 0
    started: Mapping[str, Started] = field(default_factory=dict)
    apply: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)


class Incarnation:
    """Start it, wait for `ended`, close it. `ended` has the reason why the incarnation is void."""

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        self.spec = spec
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._environment = environment
        self._tasks: list[asyncio.Task[None]] = []
        self._keeper: LeaseKeeper | None = None
        self._lock: HeldLock | None = None
        info, cluster = spec.info, environment.cluster
        options = NodeOptions(
            id=info.id,
            incarnation=new_incarnation(),
            max_bytes=info.max_bytes,
            partitions=cluster.partitions,
            min_in_sync=spec.min_in_sync,
            fill_bytes_per_s=spec.fill_bytes_per_s,
            resident_bytes=spec.resident_bytes,
            machine_bytes=spec.machine_bytes,
        )
        store = Store(info.max_bytes, cluster.partitions, overhead_bytes=spec.overhead_bytes)
        self.node = Node(options, store, environment.clock, self._make_link, self._void)
        self.server = Server(
            self.node, environment.network, cluster.id, cluster.secret, spec.max_clients
        )
        self.snapshots: SnapshotService | None = None
        if environment.snapshots is not None:
            self.snapshots = SnapshotService(self.node, environment.snapshots, cluster.id)
            self.node.roles.loader = self.snapshots
            self.server.always |= self.snapshots.table()
        self.node.follow(SettingsFollower(spec.started, self._changeable()))
        self.follower = ViewFollower(
            environment.coordinator,
            cluster.id,
            self.node.roles.adopt,
            held=lambda: self.node.roles.view,
            counts=environment.views,
        )
        self.node.heard_of = self.follower.heard_of

    def _changeable(self) -> dict[str, Callable[[Any], object]]:
        """What takes on each setting that may change while the node runs. The policy of eviction is a field of the view itself."""
        node, server, snapshots = self.node, self.server, self.snapshots

        def resize(max_bytes: int) -> None:
            node.store.resize(max_bytes)
            server.resized()
            node.eviction.trim()  # some now, the rest with the next ticks

        def pace(bytes_per_s: int) -> None:
            node.filler.bytes_per_s = bytes_per_s

        def admit(max_clients: int) -> None:
            server.max_clients = allowed_connections(max_clients)

        own: dict[str, Callable[[Any], object]] = {
            "max_memory": resize,
            "rebalance_rate": pace,
            "max_clients": admit,
        }
        if snapshots is not None:
            own["snapshot_interval"] = snapshots.writer.change_interval
        return own | dict(self.spec.apply)

    async def start(self) -> None:
        """Listen, register, keep the lease, follow the view.

        Raises `DuplicateId` or `SettingsError`; nothing is left running then.
        """
        spec, environment = self.spec, self._environment
        try:
            address = await self.server.listen(spec.listen)
            if spec.info.unix:
                await self.server.listen(spec.info.unix)
            info = spec.info
            if info.address.endswith(":0"):
                info = msgspec.structs.replace(info, address=address)
            registration = await register(
                environment.coordinator, environment.liveness, info, environment.clock,
                incarnate=lambda: self.node.incarnation,
            )  # fmt: skip
        except BaseException:
            self.server.close()
            raise
        self._lock = registration.lock
        self._keeper = registration.keeper(
            environment.coordinator,
            environment.clock,
            lambda: self.node.give_up("its lease was revoked"),
        )
        self.node.clock.lease = self._keeper
        _log.info(
            "node registered",
            id=info.id,
            incarnation=self.node.incarnation,
            address=info.address,
            compiled=is_compiled(),
        )
        self._own(self._keeper.run(), "lease")
        self._own(self._follow(), "follower")
        self._own(self.node.run(), "node")
        if self.snapshots is not None:
            self._own(self.snapshots.run(), "snapshots")

    async def drain(self, timeout_s: float) -> bool:
        """Ask for everything to be moved off; whether it was, within `timeout_s`.

        False at once when the whole cluster is stopping: then there is nowhere to move it to. A node that holds nothing
        waits as well until a view says that it drains: one that ended before would be taken for dead.
        """
        node, clock = self.node, self._environment.clock
        node.stopping = True
        deadline = clock.boottime() + timeout_s
        await self._say_leaving()
        while clock.boottime() < deadline and not self.ended.done():
            if not self._holds_data() and self._is_seen_to_drain():
                return True
            if await self._everybody_leaves():
                _log.info("the whole cluster stops, not draining", id=node.id)
                return False
            await asyncio.sleep(_DRAIN_POLL_S)
        return not self._holds_data() and not self.ended.done()

    def _holds_data(self) -> bool:
        roles = self.node.roles
        return bool(roles.primaries or roles.replicas or roles.awaiting or roles.releasing)

    def _is_seen_to_drain(self) -> bool:
        """Also if no view lists this incarnation: then nobody misses it."""
        node, view = self.node, self.node.roles.view
        if view is None or view.incarnation(node.id) != node.incarnation:
            return True
        return view.nodes[node.id].draining

    async def seal(self, timeout_s: float) -> None:
        """Serve nothing more and write the last snapshot. For a node that stops and could not move its data off."""
        self.node.roles.seal()
        if self.snapshots is not None:
            complete = await self.snapshots.writer.seal(timeout_s)
            _log.info("sealed", id=self.node.id, complete=complete)

    async def close(self, *, leave: bool) -> None:
        """Stop serving. `leave`: give up the lease as well, so that nobody waits for it to lapse.

        Void before all else: what another node hands over to us now would be in nobody's last snapshot.
        """
        self.node.give_up("the process stops")
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        if leave and self._keeper is not None and not self._keeper.revoked:
            await self._keeper.release()
        self.server.close()
        await self.node.peers.close()
        if self._lock is not None:
            self._lock.release()

    async def _follow(self) -> None:
        try:
            await self.follower.run()
        except UnknownView as error:
            # What we did by that view concerned nobody else: what we hold may be neither whole nor the newest.
            self.node.give_up(str(error))

    def _own(self, work: asyncio._CoroutineLike[None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._finished)
        self._tasks.append(task)

    def _finished(self, task: asyncio.Task[None]) -> None:
        """A loop of ours must not end by an error unseen: the incarnation ends with it."""
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("a loop of the node failed", task=task.get_name(), exc_info=error)
            self.node.give_up(f"its {task.get_name()} loop failed")

    def _void(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def _make_link(
        self, peer: NodeInfo, *, on_up: Callable[[], None], on_down: Callable[[], None]
    ) -> Link:
        cluster = self._environment.cluster
        return Link(
            self._environment.network,
            peer.address,
            name=peer.id,
            hello=handshake(cluster.id, peer.incarnation, cluster.secret),
            max_in_flight=1_000_000,
            on_up=on_up,
            on_down=on_down,
        )

    async def _say_leaving(self) -> None:
        key = leaving_key(self.node.id)
        try:
            await self._environment.coordinator.commit(
                Commit(put={key: self.node.incarnation.encode()}), timeout_s=1.0
            )
        except CoordinatorUnavailable as error:
            _log.warning("cannot say that this node leaves", id=self.node.id, reason=str(error))

    async def _everybody_leaves(self) -> bool:
        """Whether the whole cluster stops: it was said so, or every node that is up wants to leave."""
        view = self.node.roles.view
        try:
            keys = await self._environment.coordinator.read("admin/", timeout_s=1.0)
        except CoordinatorUnavailable:
            return False
        if STOPPING_KEY in keys:
            return True
        if view is None:
            return True
        return all(
            (record := keys.get(leaving_key(node.id))) is not None
            and record.value == node.incarnation.encode()
            for node in view.nodes.values()
            if node.up
        )
