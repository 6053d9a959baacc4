"""Whether a client and its requests are taken: its place among the connections, its quota, and what begins on the fast path."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from master.fastpath.context import Context, InFlight
from master.fastpath.dispatch import PLAIN_PATH, begin, end_of_body
from master.fastpath.header_cache import ALL_KEYS, SOME_KEYS, without_fill_token
from master.fastpath.peer import Peer
from master.fastpath.requests import PlainGet, Refused
from master.fastpath.special_gets import begin_special
from master.http.client_address import is_proxy
from master.http.problem import Problem
from master.http.rate_limits import Ticket
from ringmaster.net.admission import address_of

# What may become of a request that does not begin on the fast path.
NOT_FAST: Final = 0
INCOMPLETE: Final = -1
MUST_WAIT: Final = -2

# The common request line: a key that needs no decoding. Groups: method, key, (no) target.
_plain_line = re.compile(rb"(GET|PUT|DELETE) " + PLAIN_PATH + rb"() HTTP/1\.1\r\n").match
# Any other line that the fast path may know. Groups: method, (no) key, target. The second can match nothing at all.
_line = re.compile(
    rb"(GET|PUT|DELETE|POST)((?!))? (/data(?:[/?][!-~]{0,2048})?) HTTP/1\.1\r\n"
).match


class Intake(Peer):
    """A client whose connection and requests are counted, and whose requests begin on the fast path where they may."""

    __slots__ = ("_address", "_admitted", "_need", "_ticket", "_tickets")

    def __init__(self, context: Context, peers: dict[Peer, None]) -> None:
        super().__init__(context, peers)
        # Where it comes from, once it counts.
        self._address = ""
        self._admitted = False
        # Bytes from the beginning of an incomplete request to the end of its body, 0 while its head is incomplete.
        self._need = 0
        # Of the request that is being begun, and of those in flight, where there are limits of rates.
        self._ticket: Ticket | None = None
        self._tickets: dict[InFlight, Ticket] = {}

    def _enter(self, transport: asyncio.BaseTransport) -> str:
        """Count the connection. Returns an empty text, or why there is no place for it."""
        address = address_of(transport)
        refusal = self.context.admission.enter(address)
        if not refusal:
            self._address = address
            self._admitted = True
            front = self.context.front
            self.fronted = front is not None and is_proxy(address, front)
        return refusal

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._admitted:
            self._admitted = False
            self.context.admission.leave(self._address)
        self._tickets.clear()

    def _begin(self, data: bytes, at: int, end: int, now: float) -> int:
        """`_begin_fast`, if the limits of rates leave room for it. One that they refuse is aiohttp's to refuse."""
        rates = self.context.rates
        if not rates.active:
            return self._begin_fast(data, at, end, now)
        line = _plain_line(data, at) or _line(data, at)
        sender = None if line is None else self.context.heads.sender_of(data[line.end() : end + 2])
        if sender is None:
            return NOT_FAST
        if sender.access.is_canary:
            return self._begin_fast(data, at, end, now)
        try:
            ticket = rates.enter(self._address, sender.forwarded, now)
            rates.enter_token(ticket, sender.access, now)
        except Problem as problem:
            return self._begin_refused(data, at, end, now, problem)
        self._ticket = ticket
        following = self._begin_fast(data, at, end, now)
        self._ticket = None
        if following <= 0:
            ticket.give_back(now)
        elif self.waiting and self.waiting[-1].raw is None:
            # If not, it was answered at once; the last one is then an earlier one, which has a ticket.
            self._tickets.setdefault(self.waiting[-1], ticket)
        return following

    def _begin_refused(self, data: bytes, at: int, end: int, now: float, problem: Problem) -> int:
        """Answer a read with `problem`; leave what may have a body to aiohttp, which refuses it as well."""
        line = _plain_line(data, at) or _line(data, at)
        if line is None or line[1] != b"GET":
            return NOT_FAST
        heads, block = self.context.heads, data[line.end() : end + 2]
        head = heads.known.get(block) or heads.judge(block)
        if head is None or head.length >= 0:
            return NOT_FAST
        refused = Refused(self, b"GET", now)
        self.waiting.append(refused)
        refused.fail(problem)
        return end + 4

    def _with_quota(self, request: InFlight, raw: bytes) -> bytes:
        """`raw` with what is left of the quota of who sent `request`, after its first line."""
        ticket = self._tickets.pop(request, self._ticket)
        if ticket is None:
            return raw
        at = raw.find(b"\r\n") + 2
        return b"".join((raw[:at], ticket.lines(self.context.clock.boottime()), raw[at:]))

    def cost(self, items: int) -> None:
        if self._ticket is not None:
            self._ticket.take_more(items - 1, self.context.clock.boottime())

    def _begin_fast(self, data: bytes, at: int, end: int, now: float) -> int:
        """Begin the request at `at`, whose head ends at `end`, on the fast path: returns where it ends.

        Or one of `NOT_FAST`, `INCOMPLETE`, `MUST_WAIT`; then nothing has begun.
        """
        context = self.context
        line = _plain_line(data, at) or _line(data, at)
        if line is None:
            return NOT_FAST
        block = data[line.end() : end + 2]
        method, key, target = line.groups()
        fill_token = ""
        head = context.heads.known.get(block)
        if head is None:
            if method == b"GET":
                following = begin_special(self, key, block, end + 4, now)
                if following > 0:
                    return following
            else:
                block, fill_token = without_fill_token(block) or (block, "")
            head = context.heads.known.get(block) or context.heads.judge(block)
            if head is None:
                return NOT_FAST
        # `Head.may_get`, without the call.
        gets = head.gets
        if (
            method == b"GET"
            and key is not None
            and (gets == ALL_KEYS or (gets == SOME_KEYS and head.matches_plain(key)))
        ):
            # What `begin` does, without the calls: `test_whole_and_in_pieces_a_request_has_the_same_outcome`.
            get = PlainGet(self, key, now)
            self.waiting.append(get)
            context.router.get_nowait(key, get)
            return end + 4
        following = end_of_body(context.limits, head, method, end + 4)
        if following < 0:
            return NOT_FAST
        if following > len(data):
            self._need = following - at
            return INCOMPLETE
        if self.waiting and method != b"GET":
            return MUST_WAIT
        body = data[end + 4 : following]
        begun = begin(self, method, key, target, head, body, now, fill_token)
        return following if begun else NOT_FAST
