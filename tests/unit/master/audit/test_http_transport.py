"""The requests of the self-audit against servers that answer well, badly, late, or not at all."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from master.audit.answers import Answered
from master.audit.http_transport import HttpTransport
from master.audit.peers import Peer
from ringmaster.access.canary import canary_token
from ringmaster.net.free_ports import free_ports
from ringmaster.net.tls import MutualTls
from tests.contract.certificates import Authority

HIT = b'HTTP/1.1 200 OK\r\nETag: "5-1"\r\nContent-Length: 2\r\n\r\n17'
SHORT_S = 0.2


class Server:
    """Answers each request with the next of `replies`; the last one again and again, None: not at all."""

    def __init__(self, replies: list[bytes | None]) -> None:
        self.replies = replies
        (self.port,) = free_ports(1)
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.requests.append(head + await reader.readexactly(int(length or 0)))
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                if reply is None:
                    continue
                if reply == b"":
                    return
                writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport("secret", lambda: None)
    yield transport
    transport.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server([HIT])
    listener = await asyncio.start_server(server.serve, "127.0.0.1", server.port)
    yield server
    listener.close()


def peer(server: Server) -> Peer:
    return Peer("m2", f"http://127.0.0.1:{server.port}")


async def test_one_connection_serves_many_requests(
    transport: HttpTransport, server: Server
) -> None:
    for _ in range(3):
        answer = await transport.get(peer(server), "k", 5)
        assert (answer.kind, answer.value, answer.version) == (Answered.DONE, 17, "5-1")
    assert server.connections == 1


async def test_a_write_says_what_it_writes_for_how_long_and_who_sends_it(
    transport: HttpTransport, server: Server
) -> None:
    server.replies = [b'HTTP/1.1 204 No Content\r\nETag: "5-2"\r\n\r\n']
    answer = await transport.put(peer(server), "~a/b", 123, 60, 5)
    assert (answer.kind, answer.version) == (Answered.DONE, "5-2")
    request = server.requests[0].decode()
    assert request.startswith("PUT /data/~a/b?ttl=60 HTTP/1.1\r\nHost: localhost\r\n")
    assert f"Authorization: Bearer {canary_token('secret')}\r\n" in request
    assert request.endswith("Content-Length: 3\r\n\r\n123")


async def test_without_a_reply_in_time_it_is_silent_and_the_late_one_is_never_taken_for_another(
    transport: HttpTransport, server: Server
) -> None:
    server.replies = [None, HIT]
    assert (await transport.get(peer(server), "k", SHORT_S)).kind is Answered.SILENT
    assert (await transport.get(peer(server), "k", 5)).kind is Answered.DONE
    assert server.connections == 2


@pytest.mark.parametrize(
    "reply",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999],
)
async def test_what_is_no_reply_of_a_master_says_nothing(
    transport: HttpTransport, server: Server, reply: bytes
) -> None:
    server.replies = [reply, HIT]
    assert (await transport.get(peer(server), "k", 5)).kind is Answered.SILENT
    assert (await transport.get(peer(server), "k", 5)).kind is Answered.DONE


async def test_a_connection_that_the_peer_closes_is_made_anew(
    transport: HttpTransport, server: Server
) -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n17"
    server.replies = [closing, HIT]
    assert (await transport.get(peer(server), "k", 5)).kind is Answered.DONE
    assert (await transport.get(peer(server), "k", 5)).kind is Answered.DONE
    assert server.connections == 2


async def test_where_nobody_listens_nothing_was_sent(transport: HttpTransport) -> None:
    (port,) = free_ports(1)
    answer = await transport.put(Peer("m2", f"http://127.0.0.1:{port}"), "k", 1, 60, 5)
    assert answer.kind is Answered.UNREACHED
    assert answer.detail


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_with_certificates_both_sides_show_theirs(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = MutualTls(authority.ca, *authority.sign("own"))
    server = Server([HIT])
    listener = await asyncio.start_server(
        server.serve, "127.0.0.1", server.port, ssl=own.server, ssl_handshake_timeout=5
    )
    url = f"https://127.0.0.1:{server.port}"
    transport, stranger = (
        HttpTransport("s", lambda: own.client),
        HttpTransport("s", lambda: MutualTls(other.ca, *other.sign("other")).client),
    )
    other = Authority(tmp_path / "other")
    try:
        for _ in range(2):
            assert (await transport.get(Peer("m2", url), "k", 5)).kind is Answered.DONE
        assert server.connections == 1
        assert (await stranger.get(Peer("m2", url), "k", 5)).kind is Answered.UNREACHED
    finally:
        transport.close()
        stranger.close()
        listener.close()
