"""What the fast path's parts know of each other: a request, its client, and what both may use."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import structlog

from master.fastpath.header_cache import Heads
from master.fastpath.overload import Held, Overload
from master.http.access import EVERYTHING, Gate
from master.http.bulk_body import BulkReads
from master.http.client_address import Network
from master.http.json_bodies import parse_item
from master.http.limits import Limits
from master.http.origin_check import Authority
from master.http.problem import Problem, problem_of
from master.http.rate_limits import RateLimits
from master.http.request_counters import Counters
from master.http.responses import Replies
from master.http.write_rules import item_options
from ringmaster.errors import BadRequest, DeadlineExceeded, RingmasterError
from ringmaster.net.admission import Admission
from ringmaster.protocol.entry import expires_ms_of
from ringmaster.protocol.resp import Reply
from ringmaster.protocol.write_options import PLAIN, WriteReply, encode_options
from ringmaster.routing.pending import PendingRequest
from ringmaster.routing.router import Router
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.runtime.tick_clock import TurnClock

_LATE: Final = DeadlineExceeded("no reply came within the deadline")

_REMEMBERED: Final = 1024
_MAX_REST: Final = 256

_log = structlog.get_logger(__name__)


def _encoded_options(rest: bytes) -> bytes | None:
    try:
        item = parse_item(b'{"key":"","value":0' + rest)
        if item.if_match is not None or item.if_none_match is not None:
            return None
        options = item_options(item, "")
    except BadRequest:
        return None
    return b"" if options == PLAIN else encode_options(options)


def _nothing() -> None:
    """There is nobody to shed yet."""


class Context:
    """What all connections of one master share."""

    __slots__ = (
        "_options",
        "admission",
        "clock",
        "copies",
        "counters",
        "front",
        "get_hit",
        "get_miss",
        "get_same",
        "heads",
        "limits",
        "overload",
        "posted",
        "rates",
        "reads",
        "replies",
        "router",
        "shed_slow_readers",
        "tasks",
        "turn",
        "written",
    )

    def __init__(
        self,
        router: Router,
        replies: Replies,
        counters: Counters,
        authority: Authority,
        gate: Gate,
        limits: Limits,
        clock: ClusterClock,
        admission: Admission,
        rates: RateLimits,
        front: Sequence[Network] | None = None,
    ) -> None:
        self.admission = admission
        self.rates = rates
        # Where nginx passes requests on from, besides the unix socket; None: it does not.
        self.front = front
        # Called when a client leaves much unread, and often besides.
        self.shed_slow_readers: Callable[[], None] = _nothing
        self.router = router
        self.copies = router.copies
        self.replies = replies
        self.limits = limits
        self.clock = clock
        self.turn = TurnClock(clock)
        self.overload = Overload(router, replies, counters, clock, limits.shed_after_s)
        self.heads = Heads(authority, gate)
        self.reads = BulkReads(router, replies, counters, clock)
        self.counters = counters
        self.get_hit = counters.series("GET", "hit", 200)
        self.get_miss = counters.series("GET", "miss", 404)
        self.get_same = counters.series("GET", "hit", 304)
        self.written = {
            verb: counters.series(verb, "ok", 200) for verb in ("POST", "PUT", "DELETE")
        }
        self.posted = self.written["POST"]
        self._options: dict[bytes, bytes] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def spawn(
        self, answer: Coroutine[Any, Any, bytes], request: InFlight, connection: Client
    ) -> None:
        """Finish `request` with what `answer` returns; its deadline is the router's."""
        task = asyncio.get_running_loop().create_task(self._finish(answer, request, connection))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def problem(self, request: InFlight, error: RingmasterError | Problem) -> bytes:
        """The reply to `error`, counted."""
        problem = error if isinstance(error, Problem) else problem_of(error, write=request.write)
        seconds = self.clock.boottime() - request.began
        self.counters.observe(request.method, problem.status, "error", seconds)
        return problem.raw(b"Date: " + self.replies.date())

    def copied(self, key: bytes) -> bytes | None:
        """The whole reply to a plain GET of `key` from this master's copy, None if there is none. `turn` has begun."""
        copy = self.copies.find(key)
        if copy is None:
            return None
        now_ms = self.turn.now_ms
        second = now_ms // 1000
        self.get_hit.observe(0.0)
        if copy.second == second:
            return copy.raw
        raw = self.replies.plain_hit(key, copy.entry, self.router.here.node, now_ms)
        if not expires_ms_of(copy.entry):
            copy.raw, copy.second = raw, second
        return raw

    def options_of(self, rest: bytes) -> bytes | None:
        """The encoded options that `rest` of an item states, see `item_before_more`; empty for none.

        None for conditions, and for what is wrong. The last ones are remembered: items of one kind have the same.
        """
        options = self._options.get(rest)
        if options is None:
            options = _encoded_options(rest)
            if options is not None and len(rest) <= _MAX_REST:
                if len(self._options) >= _REMEMBERED:
                    self._options.clear()
                self._options[rest] = options
        return options

    def deleted(self, _key: bytes, _reply: WriteReply) -> bytes:
        """The reply to a DELETE."""
        return self.replies.deleted()

    async def _finish(
        self, answer: Coroutine[Any, Any, bytes], request: InFlight, connection: Client
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


class Client(Held):
    """One client's connection, as its requests see it.

    An abstract class, not a `Protocol`: so what requests use of it is fast when it is compiled.
    """

    __slots__ = ("context", "matches_plain", "tail", "waiting")

    def __init__(self, context: Context) -> None:
        self.context = context
        # What followed the key in the last plain GET: the version and a header block known to be plain.
        self.tail = b""
        # Which keys may be read with it.
        self.matches_plain: Callable[[bytes], object] = EVERYTHING.matches_plain
        # Requests without a reply, oldest first.
        self.waiting: deque[InFlight] = deque()

    def reply(self, raw: bytes) -> None:
        """`raw` is the reply to the request that has just come, when none is without a reply."""
        raise NotImplementedError

    def finish(self, request: InFlight, raw: bytes) -> None:
        """`raw` is the reply to `request`: send it as soon as all before it are sent."""
        raise NotImplementedError

    @property
    def is_lost(self) -> bool:
        """Whether nobody may be there to reply to: the client has shut its sending side, as a proxy does when its own has gone."""
        raise NotImplementedError

    def cost(self, items: int) -> None:
        """The request that is being begun has so many items: each counts as one."""

    def hold(self, key: bytes, fill_token: str) -> None:
        """The client was given a token to fill `key`: when its connection is lost, the token is for others."""
        raise NotImplementedError


class InFlight(PendingRequest):
    """One request between its arrival and its reply, which is `raw` once it is made.

    `began` and `deadline` are by `Clock.boottime()`. `connection` is None as soon as a reply is in the making: a later
    one is ignored.
    """

    __slots__ = ("began", "connection", "key", "raw")

    write = False

    @property
    def method(self) -> str:
        """Of the request, for the counters."""
        return "GET"

    def __init__(self, connection: Client, key: bytes, began: float) -> None:
        self.connection: Client | None = connection
        self.key = key
        self.began = began
        self.raw: bytes | None = None

    def replied(self, reply: Reply) -> None:
        """The primary's reply has come, or an error in its place."""
        raise NotImplementedError

    def dropped(self) -> None:
        """The client's connection is lost."""

    def patience_s(self, deadline_s: float) -> float:
        """How long it may take; usually `deadline_s`."""
        return deadline_s

    def expire(self) -> None:
        """The deadline passed without a reply."""
        self.replied(_LATE)

    def fail(self, error: RingmasterError | Problem) -> None:
        """Answer with `error`."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.finish(self, connection.context.problem(self, error))
