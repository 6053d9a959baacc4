"""aiohttp's HTTP/1.1 protocol with what it lacks: a deadline for headers, bounded draining, errors as problem+json.

Everything aiohttp answers by itself passes through here, so no reply leaves without being ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestPayloadError

from master.api.response import Reply
from master.http.limits import Limits
from master.http.problem import Problem

_log = structlog.get_logger(__name__)

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

    def __call__(self) -> web.RequestHandler:
        return self.protocol()

    def protocol(
        self, *, close_after_reply: bool = False, on_reply: Callable[[], None] | None = None
    ) -> HttpProtocol:
        """A protocol for one connection; with `close_after_reply` it answers one request and closes.

        `on_reply` is called after each reply that leaves the connection open and nothing unread.
        """
        return HttpProtocol(
            self, self.limits, close_after_reply=close_after_reply, on_reply=on_reply
        )


class HttpProtocol(web.RequestHandler):
    """One connection. `continue_wanted` is true while the client waits for a 100 before it sends its body."""

    __slots__ = (
        "_close_after_reply",
        "_header_timer",
        "_limits",
        "_on_reply",
        "_server",
        "continue_wanted",
    )

    def __init__(
        self,
        server: HttpServer,
        limits: Limits,
        *,
        close_after_reply: bool,
        on_reply: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.keepalive_s,
            access_log=None,  # type: ignore[arg-type] # aiohttp itself tests for None
            max_line_size=limits.max_target,
            max_field_size=limits.max_field,
            lingering_time=0,
            auto_decompress=False,
        )
        self._limits = limits
        self._server = server
        self._close_after_reply = close_after_reply
        self._on_reply = on_reply
        self._header_timer: asyncio.TimerHandle | None = None
        self.continue_wanted = False

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def detach(self) -> None:
        """Let go of the connection, which stays open for somebody else."""
        self.transport = None
        self.connection_lost(None)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._fail_broken_body()
        # Nothing parsed and nothing being answered: a request line or headers are on their way.
        if self._messages or self._current_request is not None:
            self._stop_timer()
        elif self._header_timer is None and data and not self._close:
            self._header_timer = self._loop.call_later(self._limits.header_s, self._headers_late)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send `resp`; if it came before the whole body, throw away up to `drain_bytes` so that it is read."""
        body = request.content
        keeps = body.is_eof() or self._will_drain(request)
        if self._close_after_reply or self._server.closing or not keeps:
            resp.force_close()
        if isinstance(resp, Reply):
            resp.dated(self._server.date())
        sent, reset = await super().finish_response(request, resp, start_time)
        if not body.is_eof() and not reset and not self.continue_wanted:
            await self._drain(body)
        self.continue_wanted = False
        if self._on_reply is not None and not reset and sent.keep_alive and body.is_eof():
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
        elif isinstance(exc, LineTooLong):
            response = self._too_long(exc)
        elif message is not None and message.startswith("Too many headers"):
            response = _reply(431, "headers-too-large", "Send fewer header fields.")
        else:
            first_line = (message or "not HTTP").split("\n", 1)[0].rstrip(":")
            response = _reply(400, "bad-http", f"This is not valid HTTP/1.1: {first_line[:200]}.")
        response.force_close()
        return response

    def _too_long(self, exc: LineTooLong) -> Reply:
        # Both limits raise the same error; they differ so that it can be told which was hit.
        if self._limits.max_target in exc.args:
            return _reply(
                414,
                "target-too-long",
                f"The request target has more than {self._limits.max_target} bytes.",
            )
        return _reply(
            431,
            "headers-too-large",
            f"A header field has more than {self._limits.max_field} bytes.",
        )

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

    def _fail_broken_body(self) -> None:
        """The parser queues a parse error behind the request whose body it is in, which would wait for ever."""
        request = self._current_request
        if request is None or not self._messages or request.content.is_eof():
            return
        error = getattr(self._messages[-1][0], "exc", None)
        if error is not None and request.content.exception() is None:
            request.content.set_exception(RequestPayloadError("the body's framing is broken"))

    def _headers_late(self) -> None:
        self._header_timer = None
        if self._messages or self._current_request is not None or self.transport is None:
            return
        detail = f"The request's headers did not arrive within {self._limits.header_s:g} s."
        self.transport.write(Problem(408, "request-timeout", detail).raw(b"Connection: close"))
        self.force_close()

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def _reply(status: int, name: str, detail: str) -> Reply:
    return Reply.of_problem(Problem(status, name, detail))
