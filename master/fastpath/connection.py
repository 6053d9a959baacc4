"""One client's connection: requests cut out of its bytes, begun in their order, and replies sent in it.

A request either takes the fast path (`master/fastpath/dispatch.py`) or is handed to aiohttp, whole and in canonical form
(`master/fastpath/handoff.py`). Where it ends is found here alone. Requests that only read run side by side; one that may
change something runs by itself, so that a pipeline sees its own effects (RFC 9112 §9.3.2).
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from master.fastpath.context import Context, InFlight
from master.fastpath.dispatch import begin_plain
from master.fastpath.handoff import Fallback, Handoff
from master.fastpath.intake import INCOMPLETE, MUST_WAIT, NOT_FAST, Intake
from master.fastpath.overload import problem_of_crowd, problem_of_overload
from master.fastpath.peer import Peer
from master.fastpath.sheddable import CLOSE, sheddable, sheddable_alone
from master.http.framing import check_beginning, frame
from master.http.problem import Problem

MAX_PIPELINE: Final = 16
MUCH_UNREAD: Final = 2**20
"""Bytes of one client's replies, from which on the sum over all is looked at without delay."""

MAX_TURNED_AWAY: Final = 256
"""So many clients for whom there is no place are given time to read so; others just hear it."""

# A request, in the form in which aiohttp gets it, whose time says how long requests wait.
_measured = re.compile(rb"[A-Z]+ /data[/? ](?![^\0]*\r\nprefer:)").match


class Connection(Intake):
    """One client. Replies leave in the order of the requests; at most `MAX_PIPELINE` are in flight.

    Without `fast` every request is handed to aiohttp.

    An `asyncio.Protocol` by its methods, not by inheritance: so its attributes are fast when it is compiled.
    """

    __slots__ = (
        "_buffer",
        "_draining",
        "_fallback",
        "_fast",
        "_handed_at",
        "_handoff",
        "_holding",
        "_last",
        "_look_at",
        "_parsing",
    )

    def __init__(
        self,
        context: Context,
        fallback: Fallback,
        peers: dict[Peer, None],
        *,
        fast: bool = True,
    ) -> None:
        super().__init__(context, peers)
        self._fast = fast
        self._fallback = fallback
        self._buffer = bytearray()
        # An incomplete head is looked at again when a line has ended, or when there are so many bytes.
        self._look_at = 0
        # The buffer begins with what cannot begin yet.
        self._holding = False
        self._parsing = False
        self._draining = False
        # The reply after which we part, for when those before it have left.
        self._last: bytes | None = None
        self._handoff: Handoff | None = None
        # When the request that aiohttp has began, if its time is of interest; else negative.
        self._handed_at = -1.0

    # -- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        refusal = self._enter(transport)
        if refusal:
            self._turn_away(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for request in self.waiting:
            request.dropped()
        self.waiting.clear()
        self._buffer.clear()
        self._taken_back()
        handoff, self._handoff = self._handoff, None
        if handoff is not None:
            handoff.close(exc)

    def eof_received(self) -> bool:
        """The client sends no more; it may still read. True: the transport stays open."""
        if self.parting or self.transport is None:
            return False
        self.ended = True
        if self._handoff is not None and self._handoff.is_busy:
            self._handoff.end()
        else:
            self._go_on()
        return True

    def pause_writing(self) -> None:
        self.paused = True
        self.since = self.context.clock.boottime()
        if self._handoff is not None:
            self._handoff.pause_writing()
        if self.unread >= MUCH_UNREAD:
            self.context.shed_slow_readers()

    def resume_writing(self) -> None:
        self.paused = False
        self.since = self.context.clock.boottime()
        if self._handoff is not None:
            self._handoff.resume_writing()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        if not buffer:
            turn = self.context.turn
            if turn.over:
                turn.begin()
            now = turn.boottime
            if self.context.overload.active:
                self._take_under_load(data, now)
            elif (
                self._fast
                and not self.waiting
                and not self.context.rates.active
                and self._is_free()
                and begin_plain(self, data, now)
            ):
                self.since = now
            elif not self._divert(data):
                self._parse(data, now, now)
            return
        if self._divert(data):
            return
        buffer += data
        ready = len(buffer) >= (self._need or self._look_at) or (not self._need and b"\n" in data)
        if ready and not self._holding:
            data = bytes(buffer)
            buffer.clear()
            # Whoever sends a request byte by byte does not get more time by it.
            self._parse(data, self.since, self.context.clock.boottime())

    def _take_under_load(self, data: bytes, now: float) -> None:
        """What `data_received` does with `data`, which nothing precedes, while requests are refused."""
        if self._divert(data):
            return
        if self.waiting or not self._is_free():
            self._parse(data, now, now)
            return
        found = sheddable_alone(self, data)
        if found is None:
            self._parse(data, now, now)
        elif not self.context.overload.admits(now, self.late, self.fronted):
            self.shed(found[0], now, write=found[1])
            self.since = now
            self.reading_changed()
        elif self._fast and not self.context.rates.active and begin_plain(self, data, now):
            self.since = now
        else:
            self._parse(data, now, now, admitted=True)

    # -- to the client

    def reply(self, raw: bytes) -> None:
        transport = self.transport
        if transport is not None:
            transport.write(raw)
            if self._buffer or self._draining or self.ended or self._last is not None:
                self._go_on()

    def finish(self, request: InFlight, raw: bytes) -> None:
        transport = self.transport
        if transport is None:
            return
        if self.context.rates.active:
            raw = self._with_quota(request, raw)
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
        if self._buffer or self._draining or self.ended or self._last is not None:
            self._go_on()

    def drain(self) -> None:
        self._draining = True
        self._go_on()

    def sweep(self, now: float) -> None:
        if self._handoff is not None and self._handoff.is_busy and not self.parting:
            return
        limits = self.context.limits
        waiting = self.waiting
        if waiting:
            for request in list(waiting):
                if request.began + request.patience_s(limits.deadline_s) <= now:
                    request.expire()
            self.since = now if not self.paused else self.since
        if not self.sweep_slow(now) and not waiting:
            self._sweep_idle(now - self.since)

    def _sweep_idle(self, waited_s: float) -> None:
        limits = self.context.limits
        if self._buffer:
            if self._need and waited_s > limits.body_s:
                self._late(f"the body did not arrive within {limits.body_s:g} s")
            elif not self._need and waited_s > limits.header_s:
                self._late(f"The request's headers did not arrive within {limits.header_s:g} s.")
        elif waited_s > limits.keepalive_s and self.transport is not None:
            self.transport.close()

    def _late(self, detail: str) -> None:
        self._refuse(Problem(408, "request-timeout", detail), self.since)

    # -- requests

    def _is_free(self) -> bool:
        """Whether a request may begin, given that none is in flight."""
        return not (
            self.paused
            or self._draining
            or self.parting
            or self._last is not None
            or (self._handoff is not None and self._handoff.is_busy)
        )

    def _go_on(self) -> None:
        """Something that was waited for has happened: take what is in the buffer, as far as it goes."""
        transport = self.transport
        if self._parsing or transport is None or self.paused or self.parting:
            return
        if self.waiting:
            if self._holding and len(self.waiting) < MAX_PIPELINE and not self.waiting[0].write:
                self._parse_buffer()
        elif self._handoff is not None and self._handoff.is_busy:
            return
        elif self._last is not None:
            transport.write(self._last)
            self.part()
        elif self._draining:
            transport.close()
        elif self._holding:
            self._parse_buffer()
        elif self.ended:
            # What is left of a request can never be whole.
            transport.close()

    def _parse_buffer(self) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        now = self.context.clock.boottime()
        self._parse(data, now, now)

    def _parse(self, data: bytes, since: float, now: float, *, admitted: bool = False) -> None:
        """Begin every complete request in `data` that may begin, the first byte of which arrived at `since`; keep the rest.

        `admitted`: the first may, whatever waits.
        """
        self._parsing = True
        self._need = self._look_at = 0
        at, size = 0, len(data)
        waiting = self.waiting
        hold = False
        while at < size:
            if self._is_full():
                hold = True
                break
            if data.startswith(b"\r\n", at):
                # An empty line before a request line is to be passed over (RFC 9112 §2.2).
                at += 2
                continue
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                at = self._check_beginning(data, at, now)
                break
            if self.context.overload.active and not admitted:
                following = self._refuse_early(data, at, end, now)
                if following > 0:
                    at = following
                    continue
            admitted = False
            following = self._begin(data, at, end, now) if self._fast else NOT_FAST
            if following > 0:
                at = following
                continue
            if following == INCOMPLETE:
                break
            if following == MUST_WAIT or waiting:
                hold = True
                break
            at, hold = self._hand_over(data, at, end + 4, now)
            break
        self._parsing = False
        self.since = now if at else since
        self._keep(data[at:] if at else data, holding=hold)

    def _refuse_early(self, data: bytes, at: int, end: int, now: float) -> int:
        """Refuse the request at `at`, whose head ends at `end`, if too much waits. Returns where it ends, 0 if it may go on."""
        context = self.context
        found = sheddable(context, data, at, end)
        if found is None or context.overload.admits(now, self.late, self.fronted):
            return 0
        method, write, following = found
        if following == CLOSE:
            context.overload.refused += 1
            self._refuse(problem_of_overload(write=write), now)
            return len(data)
        self.shed(method, now, write=write)
        return following

    def _is_full(self) -> bool:
        """Whether no request may begin now, whatever it is."""
        waiting = self.waiting
        return (
            len(waiting) >= MAX_PIPELINE
            or self.paused
            or self._draining
            or (bool(waiting) and waiting[0].write)
        )

    def _hand_over(self, data: bytes, at: int, end: int, now: float) -> tuple[int, bool]:
        """Give aiohttp the request at `at`, whose head ends at `end`. Returns where the next one begins, and whether it must wait."""
        transport = self.transport
        try:
            framing = frame(data[at:end], self.context.limits)
        except Problem as problem:
            self._refuse(problem, now)
            return len(data), False
        if transport is None:
            return len(data), False
        handoff = self._handoff
        if handoff is None:
            handoff = self._handoff = Handoff(transport, self._fallback, self)
        # One that is still to arrive waits for its sender.
        if 0 <= framing.length <= len(data) - end and _measured(framing.head):
            self._handed_at = now
            self.context.overload.handed += 1
        handoff.begin(framing)
        rest = handoff.feed(data[end:])
        if self.ended:
            handoff.end()
        return len(data) - len(rest), True

    def _check_beginning(self, data: bytes, at: int, now: float) -> int:
        """Refuse the incomplete head at `at` if it cannot become one any more. Returns where what is to be kept begins."""
        try:
            self._look_at = check_beginning(data[at:], self.context.limits)
        except Problem as problem:
            self._refuse(problem, now)
            return len(data)
        return at

    def _refuse(self, problem: Problem, began: float) -> None:
        """Reply with `problem` when it is its turn, and close. Nothing that follows is looked at."""
        context = self.context
        context.counters.observe("other", problem.status, "error", context.clock.boottime() - began)
        self._last = problem.raw(b"Date: " + context.replies.date(), b"Connection: close")
        self._buffer.clear()
        self._holding = False
        if not self._parsing:
            self._go_on()
        else:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _turn_away(self, refusal: str) -> None:
        """Say why no request of this client will be served, and close."""
        self._refuse(problem_of_crowd(refusal), self.since)
        # While many are turned away, none of them can be given time to read it.
        if (
            len(self._peers) > self.context.admission.total + MAX_TURNED_AWAY
            and self.transport is not None
        ):
            self.transport.close()

    def _keep(self, rest: bytes, *, holding: bool) -> None:
        """Keep what no request was made of; with `holding` it cannot begin yet, and no more is read."""
        if self.transport is None:
            return
        if rest:
            self._buffer += rest
        self._holding = holding and bool(self._buffer)
        self.reading_changed()
        if self.ended and not self._holding:
            self._go_on()

    def _divert(self, data: bytes) -> bool:
        """Take `data` if it is no beginning of a request: the rest of one that was handed over, or thrown away."""
        if self.parting or self._last is not None:
            self.discard(data)
            return True
        handoff = self._handoff
        if handoff is None or not handoff.is_busy:
            return False
        self._keep(handoff.feed(data), holding=True)
        return True

    # -- from the handoff

    def reading_changed(self) -> None:
        """Read on, unless what was read has to wait here or at the borrower."""
        handoff = self._handoff
        held_up = self._holding or self.held or (handoff is not None and handoff.is_full)
        self.read_on(self.parting or not held_up)

    def answered(self) -> None:
        """The borrower's reply has left; its task has still to end."""
        now = self.since = self.context.clock.boottime()
        began = self._handed_at
        if began >= 0.0:
            self._taken_back()
            overload = self.context.overload
            overload.answered += 1
            if now >= overload.look_at:
                overload.waited(now, now - began)
        asyncio.get_running_loop().call_soon(self._go_on)

    def _taken_back(self) -> None:
        """The request that aiohttp had is over."""
        if self._handed_at >= 0.0:
            self._handed_at = -1.0
            self.context.overload.handed -= 1

    def dismissed(self) -> None:
        """The borrower wants no more requests: close, after what of this one is still to come."""
        self._taken_back()
        handoff = self._handoff
        self.part(at_once=not self._buffer and (handoff is None or not handoff.owes))
