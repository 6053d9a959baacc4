"""The aux process: all wiring, signals, and one incarnation after another."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog
import uvloop

from aux.incarnation import Incarnation, NodeEnvironment, NodeSpec, leaving_key
from aux.metrics import HealthServer
from aux.snapshots.options import SnapshotOptions, SnapshotSetup
from aux.storage.memory_accounting import Footprint, look_after_s, resident_bytes
from ringmaster.cluster.process_lock import FlockLiveness
from ringmaster.cluster.registration import node_key
from ringmaster.cluster.time_agreement import join_cluster_time
from ringmaster.cluster.view import NodeInfo
from ringmaster.config.settings import AuxSettings
from ringmaster.config.sources import started_with
from ringmaster.config.types import PROCESS_BYTES
from ringmaster.coordinator import Commit
from ringmaster.coordinator.cluster_record import ClusterRecord, find_cluster
from ringmaster.coordinator.engines import configured_coordinator
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.net.admission import allowed_connections
from ringmaster.net.network import AsyncioNetwork
from ringmaster.net.tls import MutualTls
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.runtime.gc_tuning import settle_collector
from ringmaster.runtime.logging import set_log_level
from ringmaster.runtime.machine_memory import machine_memory
from ringmaster.snapshot.directory import LocalDirectory

SEAL_S: Final = 25.0
"""How long the last snapshot may take at a clean stop."""

_RESTART_PAUSE_S: Final = 0.2

_log = structlog.get_logger(__name__)


class AuxProcess:
    """Runs nodes of one id until it is told to stop."""

    def __init__(self, settings: AuxSettings) -> None:
        self._settings = settings
        self._incarnation: Incarnation | None = None
        self._threads = ThreadPoolExecutor(3, thread_name_prefix="snapshots")
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`. Raises `SettingsError`, `DuplicateId` or `CoordinatorUnavailable` if it cannot start."""
        settings = self._settings
        clock = ClusterClock(SystemClock())
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.lease_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        coordinator = configured_coordinator(settings)
        health = HealthServer(lambda: self._incarnation)
        tls = None if settings.link_files is None else MutualTls(*settings.link_files)
        renewing = None if tls is None else asyncio.create_task(tls.run(), name="certificates")
        try:
            port = await _open_health(health, settings, tls)
            cluster = await find_cluster(coordinator, settings.partitions, clock, self._stop)
            if cluster is None:
                return
            liveness = FlockLiveness(settings.lease_path / "locks")
            await join_cluster_time(coordinator, clock, liveness.boot_id, self._stop)
            environment = NodeEnvironment(
                clock=clock,
                network=AsyncioNetwork(tls),
                coordinator=coordinator,
                liveness=liveness,
                cluster=cluster,
                snapshots=self._snapshots(cluster),
            )
            spec = _spec(settings, port)
            settle_collector()
            while not self._stop.is_set():
                await self._live(spec, environment)
        finally:
            if renewing is not None:
                renewing.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)
            await health.close()
            await coordinator.close()

    def stop(self) -> None:
        """Drain and stop; the second time, stop at once."""
        self._stop.set()

    async def _live(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        incarnation = Incarnation(spec, environment)
        await incarnation.start()
        self._incarnation = incarnation
        stop: asyncio.Future[bool] = asyncio.ensure_future(self._stop.wait())
        try:
            ends: list[asyncio.Future[bool] | asyncio.Future[str]] = [stop, incarnation.ended]
            footprint = asyncio.create_task(_keep_footprint(incarnation), name="footprint")
            footprint.add_done_callback(_report_failure)
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                footprint.cancel()
            drained = False
            if not incarnation.ended.done():
                drained = await incarnation.drain(self._settings.drain_timeout)
                if not drained and not incarnation.ended.done():
                    await incarnation.seal(SEAL_S)
                _log.info("stopping", id=incarnation.node.id, drained=drained)
            else:
                _log.warning(
                    "this incarnation is void",
                    id=incarnation.node.id,
                    reason=incarnation.ended.result(),
                )
            self._incarnation = None
            await incarnation.close(leave=True)
            if self._stop.is_set():
                await self._take_back(environment, incarnation, forget=drained)
            else:
                await asyncio.sleep(_RESTART_PAUSE_S)
        finally:
            stop.cancel()

    async def _take_back(
        self, environment: NodeEnvironment, incarnation: Incarnation, *, forget: bool
    ) -> None:
        """Say that we are gone; a drained node takes its registration along."""
        if not forget:
            # Others that stop at this time must see that we left as well; the key says which incarnation.
            return
        keys = {leaving_key(incarnation.node.id), node_key(incarnation.node.id)}
        try:
            await environment.coordinator.commit(Commit(delete=frozenset(keys)), timeout_s=1.0)
        except CoordinatorUnavailable as error:
            _log.warning("could not sign off", id=incarnation.node.id, reason=str(error))

    def _snapshots(self, cluster: ClusterRecord) -> SnapshotSetup:
        settings = self._settings
        loop = asyncio.get_running_loop()
        return SnapshotSetup(
            LocalDirectory(settings.snapshot_path, cluster.id),
            lambda call: loop.run_in_executor(self._threads, call),
            SnapshotOptions(
                interval_s=settings.snapshot_interval,
                keep=settings.snapshot_keep,
                restore=settings.restore,
                restore_max_age_s=settings.restore_max_age,
            ),
        )


async def _keep_footprint(incarnation: Incarnation) -> None:
    """Keep resident memory within the budget: what is not counted is measured (`aux/storage/memory_accounting.py`)."""
    store = incarnation.node.store
    footprint = Footprint(store)
    while True:
        overhead = footprint.correct()
        incarnation.node.eviction.trim()
        await asyncio.sleep(look_after_s(store.max_bytes - store.bytes - overhead))


def _report_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("memory is not measured any more", exc_info=task.exception())


async def _open_health(health: HealthServer, settings: AuxSettings, tls: MutualTls | None) -> int:
    """Open its doors; the port of the one that others reach."""
    if settings.tls_listen is None or tls is None:
        return await health.start(settings.host, settings.http_port)
    # That of a container's own health check; everybody else comes by TLS.
    await health.start("127.0.0.1", settings.http_port)
    await health.start_tls(settings.tls_listen, tls.server)
    return int(settings.tls_listen.rpartition(":")[2])


def _spec(settings: AuxSettings, http_port: int) -> NodeSpec:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    unix = (
        ""
        if settings.unix_dir is None
        else f"unix:{_socket_path(settings.unix_dir, settings.name)}"
    )
    info = NodeInfo(
        id=settings.name,
        incarnation="",
        address=settings.address,
        unix=unix,
        http=f"{settings.address.rpartition(':')[0]}:{http_port}",
        pid=os.getpid(),
        zone=settings.zone,
        weight=settings.weight,
        max_bytes=settings.max_memory,
    )
    return NodeSpec(
        info=info,
        listen=f"{host}:{settings.port}",
        min_in_sync=settings.min_in_sync,
        fill_bytes_per_s=settings.rebalance_rate,
        overhead_bytes=PROCESS_BYTES,
        max_clients=allowed_connections(settings.max_clients),
        resident_bytes=resident_bytes,
        machine_bytes=machine_memory()[0],
        started=started_with(settings),
        apply={"log_level": set_log_level},
    )


def _socket_path(directory: Path, name: str) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory / f"{name}.sock"


def run(settings: AuxSettings) -> None:
    """Run a node, which keeps entries in memory, until SIGTERM or SIGINT; then it moves them to the other nodes and ends."""

    async def main() -> None:
        process = AuxProcess(settings)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.stop)
        await process.run()

    uvloop.run(main())
