"""The requests of the self-audit by HTTP, as a client sends them that does one thing after another.

aiohttp's client does as much, and takes four times the processor time for a request: too much for what a master does all the time.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

import httptools

from master.audit.answers import Answer, Answered, answer_of
from master.audit.peers import Peer
from ringmaster.access.canary import canary_token
from ringmaster.errors import LinkBroken, LinkDown
from ringmaster.net.tls import HANDSHAKE_S

_LONGEST_BODY = 4096


class HttpTransport:
    """`secret`: of the cluster. `tls()`: what this master shows and asks for where a peer listens with a certificate; None: it has none.

    One connection to each peer, kept; a peer is asked one thing at a time.
    """

    def __init__(self, secret: str, tls: Callable[[], ssl.SSLContext | None]) -> None:
        # By address where no tokens are in use, a master knows no names but this one.
        self._fields = f"Host: localhost\r\nAuthorization: Bearer {canary_token(secret)}\r\n"
        self._tls = tls
        self._connections: dict[str, _Connection] = {}

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    async def get(self, peer: Peer, key: str, timeout_s: float) -> Answer:
        """Read `key`."""
        return await self._request(
            peer, f"GET /data/{key} HTTP/1.1\r\n{self._fields}\r\n", timeout_s
        )

    async def put(self, peer: Peer, key: str, value: int, ttl_s: int, timeout_s: float) -> Answer:
        """Write `key`."""
        body = str(value)
        head = f"PUT /data/{key}?ttl={ttl_s} HTTP/1.1\r\n{self._fields}"
        length = f"Content-Length: {len(body)}\r\n\r\n"
        return await self._request(peer, f"{head}{length}{body}", timeout_s)

    async def _request(self, peer: Peer, text: str, timeout_s: float) -> Answer:
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connect(peer)
                return await connection.ask(text.encode())
        except LinkDown as error:
            return Answer(Answered.UNREACHED, detail=str(error))
        except (LinkBroken, TimeoutError) as error:
            detail = str(error) or f"no reply in {timeout_s:g} s"
            # Without a connection nothing was sent.
            kind = Answered.UNREACHED if connection is None else Answered.SILENT
            return Answer(kind, detail=detail)
        finally:
            if connection is not None and not connection.is_idle:
                connection.close()

    async def _connect(self, peer: Peer) -> _Connection:
        """The connection to `peer`. Raises `LinkDown`."""
        known = self._connections.get(peer.url)
        if known is not None and known.is_idle:
            return known
        scheme, _, address = peer.url.partition("://")
        host, _, port = address.rpartition(":")
        tls = self._tls() if scheme == "https" else None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                _Connection,
                host.strip("[]"),
                int(port),
                ssl=tls,
                server_hostname="" if tls is not None else None,
                ssl_handshake_timeout=HANDSHAKE_S if tls is not None else None,
            )
        except OSError as error:
            raise LinkDown(str(error) or type(error).__name__) from error
        for url, other in [*self._connections.items()]:
            if not other.is_idle:
                del self._connections[url]
        self._connections[peer.url] = connection
        return connection


class _Connection(asyncio.Protocol):
    """One connection, as both the protocol of asyncio and what httptools calls with the parts of a reply."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._headers: dict[str, str] = {}
        self._body = b""

    @property
    def is_idle(self) -> bool:
        """Whether it can be asked something."""
        transport = self._transport
        return self._waiter is None and transport is not None and not transport.is_closing()

    async def ask(self, raw: bytes) -> Answer:
        """The reply to the request that `raw` is. Raises `LinkBroken`. If it is cancelled, close the connection."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise LinkBroken("the connection was closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._headers = {}
        self._body = b""
        transport.write(raw)
        return await self._waiter

    def close(self) -> None:
        """At once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"no HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc or "the connection was closed"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > _LONGEST_BODY:
            self._fail("a longer reply than any of a master")

    def on_message_complete(self) -> None:
        waiter, self._waiter = self._waiter, None
        if not self._parser.should_keep_alive():
            self.close()
        if waiter is not None and not waiter.done():
            status = self._parser.get_status_code()
            waiter.set_result(answer_of(status, self._headers, self._body))

    def _fail(self, why: str) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(LinkBroken(why))
        self.close()
