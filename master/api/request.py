"""One request as the handlers see it: raw target, headers, deadline, and a body that is read within bounds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from master.api.protocol import HttpProtocol
from master.http.access import STRANGER, Access
from master.http.limits import BodyBudget, BodyHold, Limits
from master.http.preferences import wait_of
from master.http.problem import Problem
from master.http.rate_limits import Ticket
from master.http.target import (
    Parameters,
    check_parameters,
    key_of_target,
    parse_query,
    seconds_of_text,
    split_target,
)
from master.http.write_rules import check_fill_token
from ringmaster.errors import BadRequest
from ringmaster.net.admission import address_of
from ringmaster.runtime.clock import Clock

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.IGNORECASE)
_LARGE: Final = 2 * 2**20
"""To put a larger body together takes the loop longer than to hand it to a thread: 31 MiB take 6 ms on an idle machine."""

CHANGES: Final = frozenset({"POST", "PUT", "DELETE", "PATCH"})


class Exchange:
    """A request being answered. `target` is raw, never decoded or normalised by anyone before us.

    `access`: what its sender may do; nothing is known of that before the gate was asked. `quota`: what it took of that of its
    sender, None where nothing is limited. `outcome`: what a handler says it was, `hit` or `miss`; empty: the status says it. `changed`: what it asks to change, for the audit log.
    """

    __slots__ = (
        "_budget",
        "_clock",
        "_hold",
        "access",
        "changed",
        "host",
        "limits",
        "method",
        "outcome",
        "path",
        "quota",
        "request",
        "target",
    )

    def __init__(
        self, request: web.BaseRequest, limits: Limits, budget: BodyBudget, clock: Clock
    ) -> None:
        self.request = request
        self.limits = limits
        self.method = request.method
        self._budget = budget
        self._clock = clock
        self._hold = BodyHold(clock.boottime(), _nobody_waits)
        self.access: Access = STRANGER
        self.outcome = ""
        self.changed: Mapping[str, object] = {}
        self.quota: Ticket | None = None
        target = request.raw_path
        self.host = request.headers.get("Host", "")
        self.target = target.encode("utf-8", "surrogateescape")
        self.path = target.partition("?")[0]

    @property
    def peer(self) -> str:
        """The IP address that it comes from; empty for a unix socket."""
        transport = self.request.transport
        return "" if transport is None else address_of(transport)

    @property
    def changes(self) -> bool:
        """Whether the method may change something."""
        return self.method in CHANGES

    def header(self, name: str) -> str | None:
        """The only value of header `name`, None without it. Raises `BadRequest` if it is repeated."""
        values = self.request.headers.getall(name, ())
        if len(values) > 1:
            raise BadRequest(f"{name} is given more than once")
        return values[0] if values else None

    def headers(self, name: str) -> list[str]:
        """The values of all field lines of `name`."""
        return list(self.request.headers.getall(name, ()))

    def key(self, prefix: bytes = b"/data/") -> tuple[bytes, Parameters]:
        """The key in the path or in `?key=`, and the other parameters. Raises `BadRequest`."""
        key, parameters = key_of_target(self.target, prefix)
        if key is None:
            raise BadRequest("which key? write /data/{key} or /data?key={key}")
        return key, parameters

    def parameters(self, *known: str) -> dict[str, str]:
        """The query's parameters. Raises `BadRequest` for one not in `known`, repeated or malformed."""
        found = parse_query(split_target(self.target)[1])
        check_parameters(found, *known)
        return {name: values[0] for name, values in found.items()}

    def is_flagged(self, name: str) -> bool:
        """Whether the query says `name=1`."""
        query = self.target.partition(b"?")[2]
        return f"{name}=1".encode() in query.split(b"&")

    def deadline(self) -> float:
        """By when this must be answered, by `Clock.boottime()`: the default from now, or what the client asks for."""
        seconds = self._allowed_s()
        for value in self.headers("Prefer"):
            wait = _WAIT.search(value)
            if wait is not None and int(wait[1]) > 0:
                seconds = min(seconds, float(wait[1]))
        return self._clock.boottime() + seconds

    def _allowed_s(self) -> float:
        """The default, or less if `Ringmaster-Timeout` says so."""
        seconds = self.limits.deadline_s
        asked = self.header("Ringmaster-Timeout")
        if asked is not None:
            milliseconds = seconds_of_text(asked.strip(), "Ringmaster-Timeout")
            if milliseconds == 0:
                raise BadRequest("Ringmaster-Timeout must be above 0, such as 0.5")
            seconds = min(seconds, milliseconds / 1000)
        return seconds

    def patience(self, wait_s: int) -> tuple[float, float]:
        """(by when its primary must have answered a read that asks to wait, until when that waits), as `deadline`."""
        now = self._clock.boottime()
        allowed = self._allowed_s()
        if not wait_s:
            return now + allowed, now + allowed
        until = now + wait_s
        if self.header("Ringmaster-Timeout") is not None:
            until = min(until, now + allowed)
        return now + allowed, until

    def wait_s(self) -> int | None:
        """For how many seconds a read asks to wait; None if it does not. Raises `BadRequest`."""
        return wait_of(self.headers("Prefer"))

    def fill_token(self) -> str:
        """Of a write; empty without one. Raises `BadRequest`."""
        stated = self.header("Fill-Token")
        return "" if stated is None else check_fill_token(stated)

    def cost(self, items: int) -> None:
        """It has so many items: each counts as one request."""
        if self.quota is not None:
            self.quota.take_more(items - 1, self._clock.boottime())

    def when_lost(self, gone: Callable[[], None]) -> None:
        """Have `gone` called when the client's connection is lost, whatever was answered. At once if that is so already.

        Until `not_when_lost`: what it refers to is kept for as long as the connection.
        """
        protocol = self.request.protocol
        if isinstance(protocol, HttpProtocol):
            protocol.when_lost(gone)

    def not_when_lost(self, gone: Callable[[], None]) -> None:
        """What `when_lost` was told is no more to be done."""
        protocol = self.request.protocol
        if isinstance(protocol, HttpProtocol):
            protocol.not_when_lost(gone)

    @property
    def holder_has_gone(self) -> bool:
        """Whether a proxy sent this, for a client that has gone."""
        protocol = self.request.protocol
        return self.is_proxied and (not isinstance(protocol, HttpProtocol) or protocol.has_ended)

    @property
    def is_proxied(self) -> bool:
        """Whether a proxy sent this."""
        names = self.request.headers
        return "X-Forwarded-For" in names or "Forwarded" in names or "Via" in names

    def require_json(self) -> None:
        """A page of a browser may send JSON only as JSON: other types reach us without a preflight. Raises `Problem`."""
        if self.header("Origin") is None:
            return
        media_type = (self.header("Content-Type") or "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise Problem(
                415, "unsupported-type", "with an Origin header the body must be application/json"
            )

    async def refuse_body(self) -> None:
        """Raise `BadRequest` if there is a body: this operation takes none."""
        if self.request.content_length or not self.request.content.is_eof():
            raise BadRequest("this operation takes no body")

    async def body(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes; asks for it (100) first if the client waits for that.

        Raises `Problem` 413, 408 or 400, and `Shed` when too many bodies are in memory. Its bytes count against the
        budget until `release`.
        """
        length = self.request.content_length
        if length is not None and length > limit:
            raise _too_large(limit)
        await self._say_continue()
        chunks: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        hold = self._hold
        try:
            async with asyncio.timeout(self.limits.body_s) as patience:
                hold.on_evicted = lambda: patience.reschedule(loop.time())
                while not self.request.content.at_eof():
                    chunk = await self.request.content.readany()
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    self._budget.take(hold, len(chunk), self._clock.boottime())
                    chunks.append(chunk)
            hold.arriving = False
        except TimeoutError as error:
            if hold.evicted:
                detail = "the body came too slowly, and others needed its place in memory"
                raise Problem(408, "request-timeout", detail, close=True) from error
            detail = f"the body did not arrive within {self.limits.body_s:g} s"
            raise Problem(408, "request-timeout", detail, close=True) from error
        except RequestPayloadError as error:
            raise Problem(400, "bad-http", str(error), close=True) from error
        if size > _LARGE:
            # Without the interpreter's lock, so that others are served meanwhile.
            return await asyncio.to_thread(b"".join, chunks)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def release(self) -> None:
        """Give back what the body took of the budget."""
        self._budget.give_back(self._hold)

    async def _say_continue(self) -> None:
        protocol = self.request.protocol
        if isinstance(protocol, HttpProtocol) and protocol.continue_wanted:
            protocol.continue_wanted = False
            if protocol.transport is not None:
                protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _nobody_waits() -> None:
    """The body is not being read."""


def _too_large(limit: int) -> Problem:
    return Problem(413, "too-large", f"the body may have {limit} bytes at most", max_bytes=limit)
