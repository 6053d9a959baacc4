"""aiohttp's HTTP/1.1 protocol behind a connection that frames requests: bounded draining, errors as problem+json.

Everything aiohttp answers by itself passes through here, so no reply leaves without being ours.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog
from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestPayloadError

from master.api.response import Reply
from master.http.limits import Limits
from master.http.problem import Problem

_log = structlog.get_logger(__name__)

_FOR_EVER_S = 1e6

MAX_HELD: Final = 1024
"""What one connection remembers to do when it is lost."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpServer(web.Server):
    """Makes one protocol per connection; `handler` answers every request and maps its own errors to replies.

    `date()` is the value of the Date header.
    """

    def __init__(self, handler: Handler, limits: Limits, date: Callable[[], bytes]) -> None:
        # Access logs cost more than the request; counters say the same.
        super().__init__(handler, access_log=None)
        self.limits = limits
        self.date = date
        self.closing = False

    def close_after_replies(self) -> None:
        """From now on each connection closes after its next reply."""
        self.closing = True

    def protocol(self, on_reply: Callable[[], None]) -> HttpProtocol:
        """A protocol for one connection; `on_reply` is called after each reply that leaves the connection open."""
        return HttpProtocol(self, self.limits, on_reply)


class HttpProtocol(web.RequestHandler):
    """One connection. `continue_wanted` is true while the client waits for a 100 before it sends its body; `has_ended` from when
    it sends no more.
    """

    __slots__ = (
        "_body",
        "_gone",
        "_limits",
        "_on_reply",
        "_server",
        "continue_wanted",
        "has_ended",
    )

    def __init__(self, server: HttpServer, limits: Limits, on_reply: Callable[[], None]) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            # Deadlines, keep-alive and framing are the connection's before us; so are these limits, which are lower there.
            keepalive_timeout=_FOR_EVER_S,
            tcp_keepalive=False,
            access_log=None,  # type: ignore[arg-type] # aiohttp itself tests for None
            max_line_size=2 * limits.max_line,
            max_field_size=2 * limits.max_line,
            max_headers=limits.max_fields + 8,
            lingering_time=0,
            auto_decompress=False,
        )
        self._limits = limits
        self._server = server
        self._on_reply = on_reply
        self._body: StreamReader | None = None
        self.continue_wanted = False
        self.has_ended = False
        self._gone: deque[Callable[[], None]] = deque(maxlen=MAX_HELD)

    def when_lost(self, gone: Callable[[], None]) -> None:
        """Have `gone` called when the connection is lost; the oldest of too many is forgotten."""
        if self.transport is None:
            gone()
        else:
            self._gone.append(gone)

    def not_when_lost(self, gone: Callable[[], None]) -> None:
        """What `when_lost` was told is no more to be done."""
        with suppress(ValueError):
            self._gone.remove(gone)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        while self._gone:
            self._gone.popleft()()

    def sender_ended(self) -> None:
        """The client sends no more; it may still read."""
        self.has_ended = True

    def break_body(self, problem: Problem) -> None:
        """The rest of the body that is being received will not come; who reads it hears `problem`'s detail."""
        body = self._body
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(RequestPayloadError(problem.detail))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Between its place among the messages and the request made of it a body is nowhere to be found.
        if self._messages:
            self._body = self._messages[-1][1]

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send `resp`; if it came before the whole body, throw away up to `drain_bytes` so that the connection stays."""
        body = request.content
        keeps = body.is_eof() or self._will_drain(request)
        if self._server.closing or not keeps:
            resp.force_close()
        if isinstance(resp, Reply):
            resp.dated(self._server.date())
        sent, reset = await super().finish_response(request, resp, start_time)
        if not body.is_eof() and not reset and keeps:
            await self._drain(body)
        self.continue_wanted = False
        if not reset and sent.keep_alive and body.is_eof():
            self._on_reply()
        return sent, reset

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The reply to what is not HTTP (`status` 400) or to a bug (500). Always closes the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("the reply had begun")
        if status == 500:
            _log.error("a request failed", exc_info=exc)
            response = _reply(500, "internal-error", "This is a bug; the log says more.")
        else:
            first_line = (message or "not HTTP").split("\n", 1)[0].rstrip(":")
            response = _reply(400, "bad-http", f"This is not valid HTTP/1.1: {first_line[:200]}.")
        response.force_close()
        return response

    def _will_drain(self, request: web.BaseRequest) -> bool:
        length = request.content_length
        return (
            length is not None and length <= self._limits.drain_bytes and not self.continue_wanted
        )

    async def _drain(self, body: StreamReader) -> None:
        left = self._limits.drain_bytes
        with suppress(TimeoutError, ConnectionError, RequestPayloadError):
            async with asyncio.timeout(self._limits.drain_s):
                while left > 0 and not body.is_eof():
                    left -= len(await body.readany())


def _reply(status: int, name: str, detail: str) -> Reply:
    return Reply.of_problem(Problem(status, name, detail))
