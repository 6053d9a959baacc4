"""The network seam: connect and listen by address text; asyncio protocols on top.

An address is `host:port`, `[v6]:port` or `unix:/path`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from ringmaster.errors import LinkDown, SettingsError
from ringmaster.net.tls import HANDSHAKE_S, MutualTls

ProtocolFactory = Callable[[], asyncio.Protocol]


class Listener(Protocol):
    """An open listening socket."""

    @property
    def address(self) -> str:
        """Where it listens, with the port the system chose if 0 was asked for."""

    def close(self) -> None:
        """Stop accepting. Open connections stay."""


class Network(Protocol):
    """Opens connections. Nothing else in the project does."""

    async def connect(self, address: str, factory: ProtocolFactory, timeout_s: float) -> None:
        """Connect within `timeout_s`; `factory()` gets `connection_made`. Raises `LinkDown`."""

    async def listen(self, address: str, factory: ProtocolFactory) -> Listener:
        """Accept connections at `address`, each with a protocol of its own. Raises `SettingsError`."""


def parse_address(address: str) -> tuple[str, int] | str:
    """`(host, port)` for TCP, or the path of a unix socket. Raises `SettingsError`."""
    if address.startswith("unix:"):
        return address[5:]
    host, sep, port = address.rpartition(":")
    if not sep or not port.isdigit() or int(port) > 65535:
        raise SettingsError(
            f"not an address: {address!r}; write host:port, [v6]:port or unix:/path"
        )
    return host.strip("[]"), int(port)


class AsyncioNetwork:
    """TCP and unix sockets of the running event loop, `TCP_NODELAY` set. With `tls`, TCP is encrypted, and both sides identify themselves."""

    __slots__ = ("_tls",)

    def __init__(self, tls: MutualTls | None = None) -> None:
        self._tls = tls

    async def connect(self, address: str, factory: ProtocolFactory, timeout_s: float) -> None:
        target = parse_address(address)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                if isinstance(target, str):
                    await loop.create_unix_connection(factory, target)
                else:
                    tls = None if self._tls is None else self._tls.client
                    _no_delay(await _connect_tcp(loop, factory, *target, tls))
        except (OSError, TimeoutError) as error:
            raise LinkDown(f"cannot connect to {address}: {str(error) or 'timed out'}") from error

    async def listen(self, address: str, factory: ProtocolFactory) -> Listener:
        target = parse_address(address)
        loop = asyncio.get_running_loop()
        try:
            if isinstance(target, str):
                _remove_stale_socket(target)
                server = await loop.create_unix_server(factory, target, backlog=1024)
                return _Listening(server, address)
            server = await loop.create_server(
                factory,
                *target,
                backlog=1024,
                ssl=None if self._tls is None else self._tls.server,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_S,
            )
        except OSError as error:
            raise SettingsError(f"cannot listen on {address}: {error}") from error
        host, port = server.sockets[0].getsockname()[:2]
        return _Listening(server, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


class _Listening:
    __slots__ = ("_server", "address")

    def __init__(self, server: asyncio.AbstractServer, address: str) -> None:
        self._server = server
        self.address = address

    def close(self) -> None:
        self._server.close()


async def _connect_tcp(
    loop: asyncio.AbstractEventLoop,
    factory: ProtocolFactory,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
) -> asyncio.BaseTransport:
    """Connect to the first address of `host` that takes us. Raises the `OSError` of the last one.

    The name is looked up here: uvloop's `create_connection`, when cancelled, leaves its look-up alone, and a failure
    of that is then reported as an exception that nobody retrieved.
    """
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError(f"no address of {host}")
    for _, _, _, _, at in found:
        # A link-local address means nothing without its interface.
        scope = f"%{at[3]}" if len(at) == 4 and at[3] else ""
        try:
            transport, _ = await loop.create_connection(factory, f"{at[0]}{scope}", port, ssl=tls)
        except OSError as error:
            failure = error
        else:
            return transport
    raise failure


def _no_delay(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _remove_stale_socket(path: str) -> None:
    """A unix socket left by a dead process is in the way of bind(2); a live one is not ours to take."""
    if not os.path.exists(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise SettingsError(f"another process listens on unix:{path}")
