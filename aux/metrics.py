"""The node's small HTTP server: health and metrics, nothing else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from aux.incarnation import Incarnation
from aux.snapshots.service import SnapshotService
from ringmaster.errors import SettingsError
from ringmaster.net.tls import HANDSHAKE_S

_COUNTERS: Final = ("hits", "misses", "writes", "evictions", "expirations", "invalidations")


class NodeCollector:
    """Reads the plain integers of the present incarnation; they start again with the next."""

    def __init__(self, incarnation: Callable[[], Incarnation | None]) -> None:
        self._incarnation = incarnation

    def collect(self) -> Iterator[Metric]:
        """One sample each, all from the same turn of the loop."""
        incarnation = self._incarnation()
        if incarnation is None:
            return
        node = incarnation.node
        roles, lease = node.roles, node.clock.lease
        for name in _COUNTERS:
            yield _counter(name, f"{name.capitalize()} since start.", getattr(node.counters, name))
        yield _counter("filled_keys", "Keys sent to copies being filled.", node.filler.filled_keys)
        yield _counter(
            "filled_bytes", "Bytes sent to copies being filled.", node.filler.filled_bytes
        )
        yield _gauge("entries", "Entries held, replicas included.", node.store.entries)
        yield _gauge("bytes", "Bytes that the entries cost.", node.store.bytes)
        yield _gauge("max_bytes", "The budget of the whole process.", node.store.max_bytes)
        usable = max(0, node.store.max_bytes - node.store.overhead_bytes)
        yield _gauge(
            "usable_bytes", "The part of the budget that entries can have at present.", usable
        )
        yield _gauge("connections", "Open RESP connections.", len(incarnation.server.connections))
        yield _counter(
            "refused_commands",
            "Commands of masters and nodes that came without the cluster's secret.",
            incarnation.server.authorization.refused,
        )
        yield _counter(
            "refused_views",
            "Pushed views that the coordinator did not know.",
            incarnation.follower.counts.refused,
        )
        yield _counter(
            "unknown_views",
            "Times that a view was held that the coordinator did not know; the node began anew.",
            incarnation.follower.counts.unknown,
        )
        yield _counter("fill_tokens", "Tokens to fill a key that were given.", node.fills.granted)
        yield _gauge(
            "fills", "Keys with a live fill token or with callers that wait.", node.fills.keys
        )
        grants = node.grants
        yield _counter(
            "copy_hits", "Reads that masters answered from their copies.", node.counters.copy_hits
        )
        yield _counter("granted_copies", "Keys of which masters were given copies.", grants.granted)
        yield _counter(
            "recalled_copies", "Keys of which the copies were asked back.", grants.recalled
        )
        yield _gauge("granted_keys", "Keys of which masters may have copies.", grants.keys)
        yield _gauge(
            "gated_partitions",
            "Partitions whose writes wait until all masters follow their new term.",
            grants.gates,
        )
        advisor = node.advisor
        yield _counter(
            "advice_sampled_reads", "Reads of keys that the advisor samples.", advisor.sampled_reads
        )
        yield _counter("advice_seconds", "Processor time of the advisor.", advisor.spent_s)
        yield _gauge(
            "advice_keys", "Keys in the models of the advisor.",
            sum(model.miniature.entries for model in advisor.models),
        )  # fmt: skip
        yield _gauge("event_sessions", "Masters that listen to events.", len(node.sessions))
        yield _counter(
            "refused_connections",
            "Connections beyond --max-clients that were closed.",
            incarnation.server.authorization.turned_away,
        )
        yield _gauge("epoch", "Epoch of the view followed.", roles.epoch)
        yield _gauge(
            "lease_seconds",
            "How long the lease still holds; negative when it has lapsed.",
            lease.held_until - node.clock.boottime() if lease.held_until else 0.0,
        )
        yield _gauge(
            "wall_clock_ahead_seconds",
            "By how much the host's wall clock is ahead of cluster time; negative if it is behind.",
            node.clock.wall_ahead_ms() / 1000,
        )
        yield _gauge(
            "replication_pending",
            "Writes sequenced and not acknowledged by every copy that must.",
            sum(primary.pending for primary in roles.primaries.values()),
        )
        yield from _snapshots(incarnation.snapshots)
        partitions = GaugeMetricFamily(
            "ringmaster_aux_partitions", "Partitions held, by role.", labels=["role"]
        )
        filling = sum(replica.fill_session != 0 for replica in roles.replicas.values())
        partitions.add_metric(["primary"], len(roles.primaries))
        partitions.add_metric(["replica"], len(roles.replicas) - filling)
        partitions.add_metric(["filling"], filling)
        yield partitions


def _snapshots(service: SnapshotService | None) -> Iterator[Metric]:
    if service is None:
        return
    writer, pipeline, restorer = service.writer, service.writer.pipeline, service.restorer
    for name, text, value in (
        ("failures", "Attempts to write snapshots that failed.", pipeline.failures),
        ("files", "Snapshot files written.", pipeline.written_files),
        ("partitions", "Partitions written to snapshots.", pipeline.written_partitions),
        ("entries", "Entries written to snapshots.", pipeline.written_entries),
        ("bytes", "Bytes written to snapshots.", pipeline.written_bytes),
        ("restored_entries", "Entries loaded from snapshots.", restorer.loaded_entries),
        (
            "damaged",
            "Damaged files and partitions of snapshots met by restores.",
            restorer.damage_log.damaged_files,
        ),
        ("lost_entries", "Entries that damaged snapshots lost.", restorer.damage_log.lost_entries),
        (
            "missing",
            "Partitions whose newest snapshot was not found by a restore.",
            restorer.damage_log.missing_files,
        ),
    ):
        yield CounterMetricFamily(f"ringmaster_snapshot_{name}", text, value=value)
    yield GaugeMetricFamily(
        "ringmaster_snapshot_restoring_partitions",
        "Partitions being loaded.",
        value=restorer.waiting,
    )
    yield GaugeMetricFamily(
        "ringmaster_snapshot_losses",
        "Snapshots damaged or missing when they were needed, within the last hour.",
        value=restorer.damage_log.remembered,
    )
    if not writer.interval_s:
        return
    yield GaugeMetricFamily(
        "ringmaster_snapshot_interval_seconds",
        "Time between rounds of snapshots.",
        value=writer.interval_s,
    )
    yield GaugeMetricFamily(
        "ringmaster_snapshot_last_success_timestamp_seconds",
        "When every snapshot that was due had been written; at first, the node's start.",
        value=writer.last_success_s,
    )


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"ringmaster_aux_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ringmaster_aux_{name}", text, value=value)


class HealthServer:
    """`GET /healthz` and `GET /metrics` of a node."""

    def __init__(self, incarnation: Callable[[], Incarnation | None]) -> None:
        self._incarnation = incarnation
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(incarnation))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises `SettingsError`."""
        app = web.Application()
        app.add_routes([web.get("/healthz", self._health), web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(f"cannot listen on {host}:{port}: {error}") from error
        bound: int = self._runner.addresses[0][1]
        return bound

    async def start_tls(self, address: str, context: ssl.SSLContext) -> None:
        """Listen at `address` by TLS, too, once `start` has returned. Raises `SettingsError`."""
        host, _, port = address.rpartition(":")
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._server(),
                host.strip("[]"),
                int(port),
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except OSError as error:
            raise SettingsError(f"cannot listen on {address}: {error}") from error

    def _server(self) -> web.Server:
        if self._runner is None or self._runner.server is None:
            raise RuntimeError("it was not started")
        return self._runner.server

    async def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, _request: web.Request) -> web.Response:
        incarnation = self._incarnation()
        if incarnation is None:
            return web.json_response({"status": "registering"}, status=503)
        node = incarnation.node
        body = {
            "status": "ok" if node.clock.lease_held() else "suspended",
            "id": node.id,
            "incarnation": node.incarnation,
            "epoch": node.roles.epoch,
        }
        return web.json_response(body)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )
