"""One client's connection on the fast path: requests cut out of its bytes, replies sent in their order."""

from __future__ import annotations

import asyncio
import re
from typing import Final, cast

from master.fastpath.context import Client, Context, InFlight
from master.fastpath.dispatch import PLAIN_PATH, begin, begin_plain, end_of_body
from master.fastpath.handoff import Fallback, Loan
from master.fastpath.requests import PlainGet
from master.http.problem import Problem

MAX_PIPELINE: Final = 16
_WRITE_S: Final = 60.0

# The common request line: a key that needs no decoding. Groups: method, key, (no) target.
_plain_line = re.compile(rb"(GET|PUT|DELETE) " + PLAIN_PATH + rb"() HTTP/1\.1\r\n").match
# Any other line that may be ours. Groups: method, (no) key, target.
_line = re.compile(rb"(GET|PUT|DELETE|POST)(\0)? (/data(?:[/?][!-~]{0,2048})?) HTTP/1\.1\r\n").match
# Any line of a request that ends where its head says.
_framed_line = re.compile(rb"(?!CONNECT )[A-Z]{3,16} [!-~]+ HTTP/1\.1\r\n").match
_bare_lf = re.compile(rb"(?<!\r)\n").search
_OURS: Final = (b"GET /data", b"PUT /data", b"DELETE /data", b"POST /data")


class Connection(Client):
    """One client. Replies leave in the order of the requests; at most `MAX_PIPELINE` are in flight.

    `connections`: those that are open, this one among them from `connection_made` on.

    An `asyncio.Protocol` by its methods, not by inheritance: so its attributes are fast when it is compiled.
    """

    __slots__ = (
        "_buffer",
        "_connections",
        "_doubt",
        "_draining",
        "_fallback",
        "_holding",
        "_loan",
        "_need",
        "_parsing",
        "_since",
        "_transport",
        "paused",
    )

    def __init__(self, context: Context, fallback: Fallback, connections: set[Connection]) -> None:
        super().__init__(context)
        self.paused = False
        self._fallback = fallback
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        # Bytes from the beginning of an incomplete request to the end of its body, 0 where unknown.
        self._need = 0
        # When the client last went idle, began an incomplete request, or stopped reading.
        self._since = 0.0
        # The buffer begins with a request for aiohttp, which gets it once every reply before it has left:
        # so many bytes of it, or with 0 the whole connection. None: no such request.
        self._doubt: int | None = None
        self._loan: Loan | None = None
        # Reading is paused because of what waits here.
        self._holding = False
        self._parsing = False
        self._draining = False

    @property
    def unread(self) -> int:
        """Bytes of replies that the client has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    # -- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._since = self.context.clock.boottime()
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.waiting.clear()
        self._buffer.clear()
        self._connections.discard(self)
        loan, self._loan = self._loan, None
        if loan is not None:
            loan.borrower.connection_lost(exc)

    def eof_received(self) -> None:
        """The other side sends no more: None has the transport close."""

    def pause_writing(self) -> None:
        self.paused = True
        self._since = self.context.clock.boottime()
        if self._loan is not None:
            self._loan.borrower.pause_writing()

    def resume_writing(self) -> None:
        self.paused = False
        self._since = self.context.clock.boottime()
        if self._loan is not None:
            self._loan.borrower.resume_writing()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        if self._loan is not None:
            rest = self._loan.feed(data)
            # Feeding may have ended the connection.
            if rest and self._transport is not None:
                buffer += rest
                self._holding = True
                self._transport.pause_reading()
            return
        if not buffer:
            context = self.context
            turn = context.turn
            if turn.over:
                turn.begin()
            now = turn.boottime
            if (
                not self.waiting
                and not self.paused
                and not self._draining
                and begin_plain(self, data, now)
            ):
                self._since = now
                return
            self._parse(data, now, now)
            return
        buffer += data
        if not self._holding and len(buffer) >= self._need:
            data = bytes(buffer)
            buffer.clear()
            # Whoever sends a request byte by byte does not get more time by it.
            self._parse(data, self._since, self.context.clock.boottime())

    # -- to the client

    def finish(self, request: InFlight, raw: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        waiting = self.waiting
        if waiting[0] is not request:
            request.raw = raw
            return
        waiting.popleft()
        if waiting:
            parts = [raw]
            while waiting:
                # By a name of its own: mypy holds what was found of `waiting[0]` once for true of the next one as well.
                ready = waiting[0].raw
                if ready is None:
                    break
                parts.append(ready)
                waiting.popleft()
            raw = b"".join(parts)
        transport.write(raw)
        if self._buffer or self._draining:
            self._go_on()

    def drain(self) -> None:
        """Take no further request; close when those in flight are answered."""
        self._draining = True
        self._go_on()

    def abort(self) -> None:
        """Drop the client."""
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """Enforce the deadlines of what waits here."""
        if self._loan is not None:
            return
        limits = self.context.limits
        waiting = self.waiting
        if waiting:
            for request in list(waiting):
                if request.began + limits.deadline_s > now:
                    break
                request.expire()
            self._since = now if not self.paused else self._since
        waited_s = now - self._since
        if self.paused:
            if waited_s > _WRITE_S:
                self.abort()
        elif waiting:
            return
        elif self._buffer:
            if self._need and waited_s > limits.body_s:
                self._late(f"the body did not arrive within {limits.body_s:g} s")
            elif not self._need and waited_s > limits.header_s:
                self._late(f"The request's headers did not arrive within {limits.header_s:g} s.")
        elif waited_s > limits.keepalive_s and self._transport is not None:
            self._transport.close()

    def _late(self, detail: str) -> None:
        self.context.counters.observe(
            "other", 408, "error", self.context.clock.boottime() - self._since
        )
        if self._transport is not None:
            self._transport.write(Problem(408, "request-timeout", detail).raw(b"Connection: close"))
            self._transport.close()

    # -- requests

    def _go_on(self) -> None:
        """Something that was waited for has happened: take what is in the buffer, as far as it goes."""
        if self._parsing or self._transport is None or self.paused or self._loan is not None:
            return
        if self._draining and not self.waiting:
            self._transport.close()
        elif self._doubt is not None:
            if not self.waiting:
                self._lend(self._doubt) if self._doubt else self._hand_over()
        elif self._holding and len(self.waiting) < MAX_PIPELINE:
            data = bytes(self._buffer)
            self._buffer.clear()
            now = self.context.clock.boottime()
            self._parse(data, now, now)

    def _parse(self, data: bytes, since: float, now: float) -> None:
        """Begin every complete request in `data`, whose first byte arrived at `since`; keep the rest."""
        self._parsing = True
        self._need = 0
        at, size = 0, len(data)
        waiting, context = self.waiting, self.context
        known = context.heads.known
        hold = False
        while at < size:
            if len(waiting) >= MAX_PIPELINE or self.paused or self._draining:
                hold = True
                break
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                self._doubt = None if self._plausible(data, at) else 0
                break
            line = _plain_line(data, at) or _line(data, at)
            if line is None:
                self._doubt = self._request_size(data, at, end)
                break
            block = data[line.end() : end + 2]
            head = known.get(block) or context.heads.judge(block)
            method, key, target = line.groups()
            if method == b"GET" and key is not None and head is not None and head.length < 0:
                # What `begin` does, without the calls.
                get = PlainGet(self, key, now)
                waiting.append(get)
                context.router.get_nowait(key, get)
                at = end + 4
                continue
            following = end_of_body(self.context.limits, head, method, end + 4)
            if head is None or following < 0:
                self._doubt = self._request_size(data, at, end)
                break
            if following > size:
                self._need = following - at
                break
            body = data[end + 4 : following]
            if not begin(self, method, key, target, head, body, now):
                self._doubt = following - at
                break
            at = following
        self._parsing = False
        self._since = now if at else since
        self._keep(data[at:] if at else data, hold or self._doubt is not None)

    def _keep(self, rest: bytes, holding: bool) -> None:
        """Keep what no request was made of; read on unless that must wait."""
        transport = self._transport
        if transport is None:
            return
        if rest:
            self._buffer += rest
        if holding and rest:
            if self._doubt is not None and not self.waiting and not self.paused:
                self._go_on()
                return
            if not self._holding:
                self._holding = True
                transport.pause_reading()
            # What it waits for may have happened while parsing.
            if self._doubt is None and len(self.waiting) < MAX_PIPELINE:
                asyncio.get_running_loop().call_soon(self._go_on)
        elif self._holding:
            self._holding = False
            transport.resume_reading()

    def _plausible(self, data: bytes, at: int) -> bool:
        """Whether the incomplete head at `at` may still become a request of ours."""
        rest = data[at : at + 12]
        limit = self.context.limits.max_target
        return (
            any(rest.startswith(ours) or ours.startswith(rest) for ours in _OURS)
            and len(data) - at <= limit
            and _bare_lf(data, at) is None
        )

    def _request_size(self, data: bytes, at: int, end: int) -> int:
        """Bytes of the request at `at` whose head ends at `end`; 0 where only aiohttp can tell."""
        line = _framed_line(data, at)
        if line is None:
            return 0
        length = self.context.heads.length_of(data[line.end() : end + 2])
        return 0 if length is None else end + 4 - at + length

    def _lend(self, size: int) -> None:
        """Let aiohttp answer the first `size` bytes of the buffer, one request."""
        transport = self._transport
        if transport is None:
            return
        self._doubt = None
        data = bytes(self._buffer)
        self._buffer.clear()
        loan = self._loan = Loan(transport, self._fallback, size, self._returned)
        rest = loan.feed(data)
        self._buffer += rest
        if rest and not self._holding:
            transport.pause_reading()
        elif self._holding and not rest:
            transport.resume_reading()
        self._holding = bool(rest)

    def _returned(self, loan: Loan) -> None:
        """The reply has left; its task has still to end."""
        asyncio.get_running_loop().call_soon(self._take_back, loan)

    def _take_back(self, loan: Loan) -> None:
        transport = self._transport
        if self._loan is not loan or transport is None or transport.is_closing():
            return
        if loan.owed:
            transport.close()
            return
        self._loan = None
        loan.borrower.detach()
        self._since = self.context.clock.boottime()
        if not self._holding and not transport.is_reading():
            transport.resume_reading()
        self._go_on()

    def _hand_over(self) -> None:
        """Let aiohttp answer what is in the buffer, and close. All replies before it have left."""
        transport = self._transport
        if transport is None:
            return
        data = bytes(self._buffer)
        self.connection_lost(None)
        other = self._fallback(None)
        transport.set_protocol(cast(asyncio.BaseProtocol, other))
        other.connection_made(transport)
        if self._holding:
            transport.resume_reading()
        other.data_received(data)
