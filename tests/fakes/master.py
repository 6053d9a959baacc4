"""A master's HTTP side on a thread of its own, in front of a `FakeRouter`; the coordinator is a real one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from master.fastpath.server import FastPath
from master.http.access import Gate
from master.http.bulk_body import BulkReads
from master.http.client_address import networks_of
from master.http.limits import BodyBudget, Limits
from master.http.origin_check import Authority
from master.http.rate_limits import RateLimits
from master.http.request_counters import Counters
from master.http.responses import Replies
from master.http.shedding import LEAST_WINDOW
from ringmaster.access.grant import Grant
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import NodeInfo, Partition, View
from ringmaster.config.settings import MasterSettings, load_settings
from ringmaster.config.sources import started_with
from ringmaster.coordinator.sqlite import SqliteCoordinator
from ringmaster.net.network import AsyncioNetwork
from ringmaster.routing.router import Router
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.runtime.rate import parse_rate
from tests.fakes.router import TERM, FakeRouter

CLUSTER = "0123456789abcdef" * 2


class Observed:
    """An `Observer` that keeps what it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, str]] = []

    def observe(self, method: str, status: int, outcome: str, seconds: float) -> None:
        self.seen.append((method, status, outcome))


class FakeMaster:
    """Everything behind `address`. Set `view` and `statuses` to what the master is to know.

    `grants`: of the tokens that it knows, None if none are in use. `address_rate`: of the requests of one address, None for
    no limit.
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        grants: Sequence[Grant] | None = None,
        address_rate: str | None = None,
    ) -> None:
        clock = ClusterClock(SystemClock())
        self.limits = limits
        self.router = FakeRouter(clock)
        self.budget = BodyBudget(limits.buffered_bytes, limits.body_rate)
        self.observed = Observed()
        self.view: View = healthy_view()
        self.statuses: dict[str, NodeStatus] = {
            node.id: status_of(node) for node in healthy_view().nodes.values()
        }
        self.coordinator = SqliteCoordinator(directory, directory)
        self.counters = Counters()
        self.traffic = TrafficSteps(self.counters, clock, "master1")
        self.events = ViewEvents(clock.now_ms, self.traffic)
        self.address: tuple[str, int] = ("", 0)
        self.gate = Gate(grants)
        replies = Replies(clock, CLUSTER[:8], private=grants is not None)
        self.cluster_watch = ClusterWatch(self.coordinator, clock, lambda: self.view)
        self.links: dict[str, Any] = {}
        nodes = (lambda: self.view, self.links.get, clock)
        locate = LocateApi(lambda: self.view, self.router, replies, clock)
        cluster = ClusterApi(
            self.coordinator,
            self.cluster_watch,
            clock,
            lambda: self.view,
            lambda: self.statuses,
            "master1",
        )
        health = HealthApi(lambda: self.view, lambda: self.statuses, lambda: (b"", "text/plain"))
        self.routes = routes(
            DataApi(self.router, replies, ExplainApi(*nodes, locate)),
            BulkApi(self.router, replies, BulkReads(self.router, replies, Counters(), clock)),
            cluster,
            self.events,
            health,
            DocsApi(),
            SnapshotsApi(lambda: self.view, lambda _: None, clock),
            AdviceApi(lambda: self.view, lambda _: None, clock),
            HotKeysApi(*nodes),
            EvictionsApi(*nodes),
            locate,
            PartitionsApi(lambda: self.view),
            TrafficApi(self.traffic),
            SettingsApi(
                self.coordinator,
                self.cluster_watch,
                clock,
                lambda: self.view,
                lambda _: None,
                started_with(load_settings(MasterSettings), {}),
                "master1",
            ),
        )
        self._replies = replies
        self._authority = Authority(["cache.example"] if grants is None else ["*"])
        self._rates = RateLimits(
            None if address_rate is None else parse_rate(address_rate),
            trusted=networks_of("127.0.0.1"),
        )
        self._rates.adopt(grants or ())
        self.audited: list[dict[str, object]] = []
        self._application = Application(
            self.routes,
            self._authority,
            self.gate,
            self._rates,
            limits,
            self.budget,
            clock,
            self.observed,
            self,
        )
        self._loop = asyncio.new_event_loop()

    def info(self, event: str, **fields: object) -> None:
        """A line of the audit log."""
        assert event == "audit"
        self.audited.append(fields)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)` on the server's loop; a coroutine is awaited."""

        async def run() -> Any:
            result = function(*args)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def close_after_replies(self) -> None:
        """What a master does first when it is told to stop."""
        self._server.close_after_replies()

    @contextmanager
    def overloaded(self, room: int = 0) -> Iterator[None]:
        """Let it believe that requests wait too long, and have at most `room` in flight, until the block ends."""
        overload = self._front.context.overload

        def press(active: bool, window: int, ends: float) -> None:
            overload.shedding.window, overload.shedding.ends = window, ends
            overload.shedding.active = overload.active = active

        self.call(press, True, room, float("inf"))
        try:
            yield
        finally:
            self.call(press, False, LEAST_WINDOW, 0.0)

    @contextmanager
    def running(self) -> Iterator[FakeMaster]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._loop.run_forever, name="fake-master")
        thread.start()
        try:
            listening = self.call(self._listen)
            yield self
            self.call(self._close, listening)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)
            self._loop.close()

    async def _listen(self) -> asyncio.AbstractServer:
        self._server = HttpServer(self._application, self.limits, self._replies.date)
        self._front = FastPath(
            # Only the fast path asks it; with that off, every request goes to the fake one.
            Router(AsyncioNetwork(), SystemClock()),
            self._replies,
            Counters(),
            self._authority,
            self.limits,
            ClusterClock(SystemClock()),
            self._server.protocol,
            gate=self.gate,
            rates=self._rates,
            fast=False,
        )
        self._sweeping = asyncio.create_task(self._front.run())
        listening = await self._loop.create_server(self._front.protocol, "127.0.0.1", 0)
        self.address = listening.sockets[0].getsockname()[:2]
        return listening

    async def _close(self, listening: asyncio.AbstractServer) -> None:
        listening.close()
        self.events.close()
        self._server.close_after_replies()
        await self._front.close(1.0)
        self._sweeping.cancel()
        await self.coordinator.close()


def healthy_view(epoch: int = TERM, replicas: int = 2) -> View:
    """Two nodes that hold all of eight partitions, each as primary of one half."""
    nodes = {
        name: NodeInfo(
            id=name, incarnation=name * 2, address=f"127.0.0.1:700{name[-1]}", max_bytes=1000
        )
        for name in ("aux1", "aux2")
    }
    table = (Partition("aux1", ("aux2",), (), TERM), Partition("aux2", ("aux1",), (), TERM)) * 4
    return View(cluster=CLUSTER, epoch=epoch, replicas=replicas, table=table, nodes=nodes)


def status_of(node: NodeInfo) -> NodeStatus:
    """What a healthy node says."""
    return NodeStatus(
        id=node.id, incarnation=node.incarnation, epoch=TERM, lease_left_s=1.0, entries=3, hits=2
    )
