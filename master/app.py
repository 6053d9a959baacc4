"""The master process: all wiring, sockets, signals, a clean start and a clean stop."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
import uvloop

from master.api.advice import AdviceApi
from master.api.application import Application
from master.api.bulk import BulkApi
from master.api.cluster import ClusterApi
from master.api.cluster_watch import ClusterWatch
from master.api.data import DataApi
from master.api.docs import DocsApi
from master.api.events import ViewEvents
from master.api.evictions import EvictionsApi
from master.api.explain import ExplainApi
from master.api.health import HealthApi
from master.api.hot_keys import HotKeysApi
from master.api.locate import LocateApi
from master.api.partition_map import PartitionsApi
from master.api.protocol import HttpServer
from master.api.settings import SettingsApi
from master.api.snapshots import SnapshotsApi
from master.api.traffic import TrafficApi, TrafficSteps
from master.api.url_map import routes
from master.audit.auditor import Auditor
from master.audit.http_transport import HttpTransport
from master.audit.peers import Peer, peers_of
from master.control.planning.observation import PlanningSettings
from master.fastpath.server import FastPath
from master.http.access import Gate
from master.http.bulk_body import BulkReads
from master.http.client_address import networks_of
from master.http.limits import BodyBudget, Limits
from master.http.origin_check import Authority
from master.http.rate_limits import RateLimits
from master.http.request_counters import Counters
from master.http.responses import Replies
from master.live_settings import LiveSettings
from master.metrics import Exposition, MasterCollector
from master.prefork import clear_socket_path, run_workers
from master.runtime import MasterEnvironment, MasterRuntime
from master.token_watch import TokenWatch
from ringmaster.access.canary import canary_grant
from ringmaster.access.grant import Grant
from ringmaster.cluster.process_lock import FlockLiveness
from ringmaster.cluster.registration import MasterRow
from ringmaster.cluster.time_agreement import join_cluster_time
from ringmaster.cluster.view import View
from ringmaster.config.settings import MasterSettings
from ringmaster.config.sources import started_with
from ringmaster.coordinator.cluster_record import find_cluster
from ringmaster.coordinator.engines import configured_coordinator
from ringmaster.errors import SettingsError
from ringmaster.net.admission import Admission, allowed_connections
from ringmaster.net.network import AsyncioNetwork, parse_address
from ringmaster.net.tls import HANDSHAKE_S, MutualTls
from ringmaster.runtime.allocator import give_back_memory
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.runtime.compiled import is_compiled
from ringmaster.runtime.gc_tuning import settle_collector
from ringmaster.runtime.logging import audit_log
from ringmaster.runtime.rate import Rate, parse_rate

STOP_S: Final = 5.0
"""How long requests in flight may take once the process is told to stop."""

_BACKLOG: Final = 4096

_log = structlog.get_logger(__name__)


class Master:
    """The HTTP side and the runtime behind it: `start`, `wait`, `close`. Raises `SettingsError` for a bad tokens file.

    `unix`: a listening unix socket that this worker shares with others.
    """

    def __init__(
        self,
        settings: MasterSettings,
        environment: MasterEnvironment,
        unix: socket.socket | None = None,
    ) -> None:
        clock = environment.clock
        self._settings = settings
        self._unix = unix
        self._limits = Limits(
            max_value=settings.max_value,
            deadline_s=settings.deadline,
            shed_after_s=settings.shed_after,
        )
        self._listeners: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.tls: MutualTls | None = None
        counters = Counters()
        self.traffic = TrafficSteps(counters, clock, settings.name)
        self.events = ViewEvents(clock.now_ms, self.traffic)
        self._row = MasterRow(
            id=settings.name,
            address=settings.address,
            tls=settings.tls_address,
            pid=os.getpid(),
        )
        self._boot_id = environment.liveness.boot_id
        self.runtime = MasterRuntime(
            self._row,
            _planning(settings),
            environment,
            self._adopted,
            copies_bytes=settings.copies_memory,
        )
        self._grants: Sequence[Grant] = ()
        gate = Gate(canary=canary_grant(environment.cluster.secret))
        self.tokens: TokenWatch | None = None
        if settings.tokens is not None:
            self.tokens = TokenWatch(settings.tokens, self._adopt_tokens)
            gate.replace(())
        self._gate = gate
        replies = Replies(clock, environment.cluster.id[:8], private=not gate.is_open)
        # A page with a name of its own for our address (DNS rebinding) has no token.
        names = settings.host_names.split(",") if gate.is_open else ("*",)
        authority = Authority(names)
        self._rates = RateLimits(
            _rate(settings.rate_limit_address),
            _rate(settings.rate_limit_token),
            networks_of(settings.trusted_proxies or ""),
            lambda: len(self._cluster_watch.masters),
        )
        cluster_watch = ClusterWatch(environment.coordinator, clock, lambda: self.runtime.view)
        budget = BodyBudget(self._limits.buffered_bytes, self._limits.body_rate)
        reads = BulkReads(self.runtime.router, replies, counters, clock)
        bulk = BulkApi(self.runtime.router, replies, reads)
        self._cluster_watch = cluster_watch
        self._canary_requests = HttpTransport(
            environment.cluster.secret, lambda: None if self.tls is None else self.tls.client
        )
        self.auditor = self._audit(environment)
        admission = Admission(
            allowed_connections(settings.max_connections), settings.max_connections_per_address
        )
        exposition = Exposition(
            MasterCollector(
                counters=counters,
                runtime=self.runtime,
                cluster_watch=cluster_watch,
                events=self.events,
                budget=budget,
                tokens=self.tokens,
                clock=clock,
                connections=lambda: self.connections,
                admission=admission,
                overload=lambda: self.fastpath.context.overload,
                rates=self._rates,
                findings=None if self.auditor is None else self.auditor.findings,
            )
        )
        cluster = ClusterApi(
            environment.coordinator,
            cluster_watch,
            clock,
            lambda: self.runtime.view,
            self.runtime.statuses,
            settings.name,
        )
        nodes = (lambda: self.runtime.view, self.runtime.router.link_of, clock)
        locate = LocateApi(lambda: self.runtime.view, self.runtime.router, replies, clock)
        started = started_with(settings)
        table = routes(
            DataApi(self.runtime.router, replies, ExplainApi(*nodes, locate)),
            bulk,
            cluster,
            self.events,
            HealthApi(lambda: self.runtime.view, self.runtime.statuses, exposition),
            DocsApi(),
            SnapshotsApi(*nodes),
            AdviceApi(*nodes),
            HotKeysApi(*nodes),
            EvictionsApi(*nodes),
            locate,
            PartitionsApi(lambda: self.runtime.view),
            TrafficApi(self.traffic),
            SettingsApi(
                environment.coordinator,
                cluster_watch,
                clock,
                lambda: self.runtime.view,
                self.runtime.router.link_of,
                started,
                settings.name,
            ),
        )
        application = Application(
            table, authority, gate, self._rates, self._limits, budget, clock, counters, audit_log()
        )
        self.server = HttpServer(application, self._limits, replies.date)
        self.fastpath = FastPath(
            self.runtime.router,
            replies,
            counters,
            authority,
            self._limits,
            clock,
            self.server.protocol,
            gate=gate,
            admission=admission,
            rates=self._rates,
            front=networks_of(settings.trusted_proxies or "")
            if settings.front == "nginx"
            else None,
            fast=settings.fastpath,
        )
        self._live = LiveSettings(
            started, self.fastpath.context.overload, self._rates, admission, lambda: self._grants
        )
        if self.tokens is not None:
            self.tokens.load()

    @property
    def connections(self) -> int:
        """Clients connected."""
        return len(self.fastpath.connections)

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the ports that the system chose."""
        return [_name_of(each) for listener in self._listeners for each in listener.sockets]

    async def start(self) -> None:
        """Listen and take part. Raises `SettingsError` if an address is taken."""
        settings = self._settings
        self._tasks = [
            asyncio.create_task(self.runtime.run(), name="runtime"),
            asyncio.create_task(self._cluster_watch.run(), name="cluster watch"),
            asyncio.create_task(self.fastpath.run(), name="fast path"),
            asyncio.create_task(self.traffic.run(), name="traffic"),
            asyncio.create_task(give_back_memory(), name="memory"),
        ]
        if self.auditor is not None:
            self._tasks.append(asyncio.create_task(self.auditor.run(), name="self-audit"))
        if self.tls is not None:
            self._tasks.append(asyncio.create_task(self.tls.run(), name="certificates"))
        if self.tokens is not None:
            self._tasks.append(asyncio.create_task(self.tokens.run(), name="tokens"))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        await self._listen(f"{host}:{settings.port}", shared=settings.workers > 1)
        if settings.shared_listen is not None:
            await self._listen(settings.shared_listen, shared=True)
        if settings.tls_listen is not None and self.tls is not None:
            tls = self.tls.server
            await self._listen(settings.tls_listen, shared=settings.workers > 1, tls=tls)
        if self._unix is not None:
            loop = asyncio.get_running_loop()
            self._listeners.append(
                await loop.create_unix_server(self.fastpath.protocol, sock=self._unix)
            )
        elif settings.unix is not None:
            await self._listen(f"unix:{settings.unix}", shared=False)
        _log.info(
            "listening",
            addresses=self.addresses,
            fastpath=settings.fastpath,
            compiled=is_compiled(),
        )

    async def wait(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises what ended the runtime, such as `DuplicateId`."""
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
        finally:
            stopped.cancel()

    async def close(self) -> None:
        """Stop accepting, finish what is in flight within `STOP_S`, sign off."""
        for listener in self._listeners:
            listener.close()
        self.events.close()
        self.server.close_after_replies()
        await self.fastpath.close(STOP_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._canary_requests.close()
        await self.runtime.close()
        if self._settings.unix is not None and self._unix is None:
            with suppress(FileNotFoundError):
                os.unlink(self._settings.unix)

    def _adopted(self, view: View) -> None:
        """The runtime follows a newer view."""
        self._live.follower.follow(view.changed_settings)
        self.events.publish(view)
        if self.auditor is not None:
            self.auditor.follow(view)

    def _audit(self, environment: MasterEnvironment) -> Auditor | None:
        settings, watch = self._settings, self._cluster_watch
        if not settings.audit_interval:
            return None
        return Auditor(
            self._canary_requests,
            environment.clock,
            peers=self._peers,
            statuses=self.runtime.statuses,
            is_current=lambda: watch.available and self.runtime.follower.is_connected,
            # Another process of this id has other keys.
            name=f"{settings.name}/{secrets.token_hex(4)}",
            partitions=environment.cluster.partitions,
            deadline_s=settings.deadline,
            interval_s=settings.audit_interval,
        )

    def _peers(self) -> list[Peer]:
        masters, has_certificate = self._cluster_watch.masters, self.tls is not None
        return peers_of(masters, self._row, self._boot_id, has_certificate=has_certificate)

    def _adopt_tokens(self, grants: Sequence[Grant]) -> None:
        self._grants = grants
        self._gate.replace(grants)
        self._rates.adopt(grants)
        self.fastpath.forget_tokens()

    async def _listen(
        self, address: str, *, shared: bool, tls: ssl.SSLContext | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        target = parse_address(address)
        try:
            if isinstance(target, str):
                clear_socket_path(Path(target))
                listener = await loop.create_unix_server(
                    self.fastpath.protocol, target, backlog=_BACKLOG
                )
            else:
                listener = await loop.create_server(
                    self.fastpath.protocol,
                    *target,
                    backlog=_BACKLOG,
                    reuse_port=shared or None,
                    ssl=tls,
                    ssl_handshake_timeout=None if tls is None else HANDSHAKE_S,
                )
        except OSError as error:
            raise SettingsError(f"cannot listen on {address}: {error}") from error
        self._listeners.append(listener)


def run(settings: MasterSettings) -> None:
    """Run a master, which serves HTTP from the nodes of the cluster, until SIGTERM or SIGINT.

    With `--workers`, that many masters that share the sockets.
    """
    if settings.workers > 1:
        run_workers(settings, _serve)
    else:
        _serve(settings)


def _serve(settings: MasterSettings, unix: socket.socket | None = None) -> None:
    uvloop.run(_main(settings, unix))


async def _main(settings: MasterSettings, unix: socket.socket | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = ClusterClock(SystemClock())
    _make_folders(settings.data_dir, settings.lease_path)
    coordinator = configured_coordinator(settings)
    try:
        cluster = await find_cluster(coordinator, settings.partitions, clock, stop)
        if cluster is None:
            return
        liveness = FlockLiveness(settings.lease_path / "locks")
        await join_cluster_time(coordinator, clock, liveness.boot_id, stop)
        tls = None if settings.link_files is None else MutualTls(*settings.link_files)
        network = AsyncioNetwork(tls)
        environment = MasterEnvironment(clock, network, coordinator, liveness, cluster)
        master = Master(settings, environment, unix)
        master.tls = tls
        if master.tokens is not None:
            loop.add_signal_handler(signal.SIGHUP, master.tokens.reload)
        try:
            await master.start()
            settle_collector()
            await master.wait(stop)
        finally:
            await master.close()
    finally:
        await coordinator.close()
    _log.info("stopped")


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"cannot make the folder {folder}: {error}") from error


def _planning(settings: MasterSettings) -> PlanningSettings:
    return PlanningSettings(
        replicas=settings.replicas,
        eviction=settings.eviction,
        method=settings.placement,
        sole_copy_wait_s=settings.sole_copy_wait,
        bootstrap_wait_s=settings.bootstrap_wait,
        max_fills=settings.max_fills,
    )


def _rate(text: str | None) -> Rate | None:
    return parse_rate(text) if text else None


def _name_of(listening: socket.socket) -> str:
    name = listening.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
