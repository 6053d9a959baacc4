"""The hot subset of /data served straight from the connection; everything else is aiohttp's.

Served here: plain `GET`, `PUT`, `DELETE` of a key and small `POST /data`, without a task and without
an aiohttp request (`master/fastpath/connection.py` reads them, `master/fastpath/requests.py` answers them). Every doubt
hands the request's bytes, untouched, to an aiohttp protocol on the same connection: for one request,
if it is plain how many bytes belong to it, else for good, and it closes after that reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, cast

import structlog

from master.fastpath.connection import Connection
from master.fastpath.handoff import Fallback
from master.fastpath.header_cache import Heads
from master.fastpath.requests import InFlight
from master.http.bulk_body import BulkReads
from master.http.limits import Limits
from master.http.origin_check import Authority
from master.http.problem import Problem, problem_of
from master.http.request_counters import Counters
from master.http.responses import Replies
from ringmaster.errors import RingmasterError
from ringmaster.protocol.write_options import WriteReply
from ringmaster.routing.router import Router
from ringmaster.runtime.clock import Clock
from ringmaster.runtime.tick_clock import TurnClock

SWEEP_S: Final = 0.05
CALM_SWEEP_S: Final = 0.2
"""While no request waits: one that comes then is not late before its deadline, and that is further away."""

MAX_UNREAD: Final = 256 * 2**20
"""Bytes of replies that slow clients have not read yet, all together."""

_log = structlog.get_logger(__name__)


class FastPath:
    """Makes one `Connection` per client. `fallback` makes the protocol that answers in doubt.

    Give `protocol` to the listener, keep `run()` running.
    """

    def __init__(
        self,
        router: Router,
        replies: Replies,
        counters: Counters,
        authority: Authority,
        limits: Limits,
        clock: Clock,
        fallback: Fallback,
    ) -> None:
        self.router = router
        self.replies = replies
        self.limits = limits
        self.clock = clock
        self.turn = TurnClock(clock)
        self.fallback = fallback
        self.heads = Heads(authority)
        self.reads = BulkReads(router, replies, counters, clock)
        self.counters = counters
        self.get_hit = counters.series("GET", "hit", 200)
        self.get_miss = counters.series("GET", "miss", 404)
        self.written = {
            verb: counters.series(verb, "ok", 200) for verb in ("POST", "PUT", "DELETE")
        }
        self.posted = self.written["POST"]
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def protocol(self) -> asyncio.Protocol:
        """A protocol for one accepted connection."""
        return cast(asyncio.Protocol, Connection(self))

    async def run(self) -> None:
        """Enforce deadlines, until cancelled: one coarse sweep instead of a timer per request."""
        calm_s = max(SWEEP_S, min(CALM_SWEEP_S, self.limits.deadline_s))
        while True:
            busy = any(connection.waiting or connection.paused for connection in self.connections)
            await asyncio.sleep(SWEEP_S if busy else calm_s)
            now = self.clock.boottime()
            for connection in list(self.connections):
                connection.sweep(now)
            self._shed_slow_readers()

    async def close(self, within_s: float) -> None:
        """Let requests in flight finish within `within_s` seconds, then drop every connection."""
        for connection in list(self.connections):
            connection.drain()
        ends = self.clock.boottime() + within_s
        while self.connections and self.clock.boottime() < ends:  # noqa: ASYNC110 - a sweep, like run()
            await asyncio.sleep(SWEEP_S)
        for connection in list(self.connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1.0)

    def spawn(
        self, answer: Coroutine[Any, Any, bytes], request: InFlight, connection: Connection
    ) -> None:
        """Finish `request` with what `answer` returns; its deadline is the router's."""
        task = asyncio.get_running_loop().create_task(self._finish(answer, request, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def problem(self, request: InFlight, error: RingmasterError | Problem) -> bytes:
        """The reply to `error`, counted."""
        problem = error if isinstance(error, Problem) else problem_of(error, write=request.write)
        seconds = self.clock.boottime() - request.began
        self.counters.observe(request.method, problem.status, "error", seconds)
        reply = problem.reply()
        reply.dated(self.replies.date())
        return b"%b\r\n%b" % (reply.head, reply.content)

    def deleted(self, _key: bytes, _reply: WriteReply) -> bytes:
        """The reply to a DELETE."""
        return self.replies.deleted()

    async def _finish(
        self, answer: Coroutine[Any, Any, bytes], request: InFlight, connection: Connection
    ) -> None:
        try:
            raw = await answer
        except (RingmasterError, Problem) as error:
            raw = self.problem(request, error)
        except Exception:  # noqa: BLE001 - the top of this request's task; the client gets a 500
            _log.exception("a request failed")
            detail = "This is a bug; the log says more."
            raw = self.problem(request, Problem(500, "internal-error", detail))
        connection.finish(request, raw)

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
