"""Makes and minds the connections of clients.

Plain `GET`, `PUT`, `DELETE` of a key and small `POST /data` are served straight from the connection, without a task and
without an aiohttp request: the fast path. Every other request is handed to an aiohttp protocol on the same connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, cast

import structlog

from master.fastpath.connection import Connection
from master.fastpath.context import Context
from master.fastpath.handoff import Fallback
from master.fastpath.peer import Peer
from master.http.access import Gate
from master.http.client_address import Network
from master.http.limits import Limits
from master.http.origin_check import Authority
from master.http.rate_limits import RateLimits
from master.http.request_counters import Counters
from master.http.responses import Replies
from ringmaster.net.admission import Admission
from ringmaster.routing.router import Router
from ringmaster.runtime.cluster_clock import ClusterClock

SWEEP_S: Final = 0.05
CALM_SWEEP_S: Final = 0.2
"""While no request waits: one that comes then is not late before its deadline, and that is further away."""

MAX_UNREAD: Final = 128 * 2**20
"""Bytes of replies that slow clients have not read yet, all together."""

_log = structlog.get_logger(__name__)


class FastPath:
    """Makes one `Connection` per client. `fallback` makes the protocol that answers what the fast path does not; without
    `fast` it answers everything.

    Give `protocol` to the listener, keep `run()` running. Without a `gate` no tokens are in use, without an `admission` every client
    is let in, without `rates` it may send as fast as it can. `front`: the networks from which nginx passes requests on, besides the unix
    socket; None if it does not.
    """

    def __init__(
        self,
        router: Router,
        replies: Replies,
        counters: Counters,
        authority: Authority,
        limits: Limits,
        clock: ClusterClock,
        fallback: Fallback,
        *,
        gate: Gate | None = None,
        admission: Admission | None = None,
        rates: RateLimits | None = None,
        front: Sequence[Network] | None = None,
        fast: bool = True,
    ) -> None:
        gate = Gate() if gate is None else gate
        admission = Admission() if admission is None else admission
        rates = RateLimits() if rates is None else rates
        self.context = Context(
            router, replies, counters, authority, gate, limits, clock, admission, rates, front
        )
        self.context.shed_slow_readers = self._shed_slow_readers
        self._fallback = fallback
        self._fast = fast
        # In order of arrival: they are swept in it.
        self.connections: dict[Peer, None] = {}

    def protocol(self) -> asyncio.Protocol:
        """A protocol for one accepted connection."""
        connection = Connection(self.context, self._fallback, self.connections, fast=self._fast)
        return cast(asyncio.Protocol, connection)

    def forget_tokens(self) -> None:
        """The gate's tokens changed: have those of every connection looked up again."""
        self.context.heads.forget()
        for connection in self.connections:
            connection.tail = b""

    async def run(self) -> None:
        """Enforce deadlines, until cancelled: one coarse sweep instead of a timer per request."""
        calm_s = max(SWEEP_S, min(CALM_SWEEP_S, self.context.limits.deadline_s))
        while True:
            overload = self.context.overload
            busy = overload.active or any(
                connection.waiting or connection.paused for connection in self.connections
            )
            began = self.context.clock.boottime()
            await asyncio.sleep(SWEEP_S if busy else calm_s)
            now = self.context.clock.boottime()
            overload.tick(now)
            # Before the sweep, which says of those that wait that they are used now.
            used = [each.fronted for each in self.connections if each.since >= began]
            overload.look_at_clients(now, len(used), sum(used))
            for connection in list(self.connections):
                connection.sweep(now)
            self._shed_slow_readers()

    async def close(self, within_s: float) -> None:
        """Let requests in flight finish within `within_s` seconds, then drop every connection.

        Reads that wait for a missing key hear that it is missing yet: the next master they ask can wait as well.
        """
        for connection in list(self.connections):
            connection.drain()
        self.context.router.fills.hurry()
        ends = self.context.clock.boottime() + within_s
        while self.connections and self.context.clock.boottime() < ends:  # noqa: ASYNC110 - a sweep, like run()
            await asyncio.sleep(SWEEP_S)
        self.context.overload.close()
        for connection in list(self.connections):
            connection.abort()
        for task in list(self.context.tasks):
            task.cancel()
        if self.context.tasks:
            await asyncio.wait(list(self.context.tasks), timeout=1.0)

    def _shed_slow_readers(self) -> None:
        """Drop those who read slowest while replies nobody reads take too much memory."""
        paused = [connection for connection in self.connections if connection.paused]
        unread = sum(connection.unread for connection in paused)
        if unread <= MAX_UNREAD:
            return
        for connection in sorted(paused, key=lambda each: each.unread, reverse=True):
            unread -= connection.unread
            _log.warning("dropped a client that does not read", unread=connection.unread)
            connection.abort()
            if unread <= MAX_UNREAD:
                return
