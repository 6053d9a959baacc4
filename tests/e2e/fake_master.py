"""A tiny HTTP server that stands in for a master behind nginx: it keeps what it received and does as it is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.waiting import until

Writer = asyncio.StreamWriter
Answer = Callable[["Received", Writer], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came over the wire."""

    line: bytes
    headers: dict[bytes, list[bytes]]
    body: bytes

    @property
    def method(self) -> bytes:
        return self.line.split(b" ", 1)[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]


async def answer_ok(request: Received, writer: Writer) -> bool:
    """200 with the name of nobody; the connection stays open."""
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
        + (b"" if request.method == b"HEAD" else b"ok")
    )
    return True


async def break_off(request: Received, writer: Writer) -> bool:
    """Close the connection without an answer: the request was received, its outcome is lost."""
    return False


def answer_raw(raw: bytes) -> Answer:
    async def answer(request: Received, writer: Writer) -> bool:
        writer.write(raw)
        return True

    return answer


class FakeMaster:
    """Listens on a unix socket. `answer` may be replaced at any time; it returns whether the connection stays open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Answer = answer_ok
        self.received: list[Received] = []
        self._server: asyncio.Server | None = None
        self._writers: set[Writer] = set()

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=64 * 2**20)

    async def stop(self) -> None:
        """Refuse connections from now on, and end those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink()
        for writer in list(self._writers):
            writer.transport.abort()
        await until(lambda: not self._writers, "connections closed")

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self._writers.add(writer)
        try:
            while (request := await _read(reader)) is not None:
                self.received.append(request)
                stays_open = await self.answer(request, writer)
                await writer.drain()
                if not stays_open:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rest = head[:-4].split(b"\r\n")
    headers: dict[bytes, list[bytes]] = {}
    for each in rest:
        name, _, value = each.partition(b":")
        headers.setdefault(name.lower(), []).append(value.strip())
    assert b"transfer-encoding" not in headers, "nginx is to send bodies with a length"
    length = int(headers.get(b"content-length", [b"0"])[0])
    return Received(line, headers, await reader.readexactly(length))


@dataclass(frozen=True, slots=True)
class RawReply:
    status: int
    headers: dict[str, str]
    body: bytes


async def exchange(port: int, raw: bytes, timeout_s: float = 10.0) -> RawReply:
    """Send bytes on a connection of their own, and read one reply; status 0 if the connection was closed instead."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 2**20)
        try:
            writer.write(raw)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return RawReply(0, {}, b"")
            line, *rest = head[:-4].decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (each.partition(":") for each in rest)}
            status = int(re.split(" ", line)[1])
            length = 0 if raw.startswith(b"HEAD ") else int(headers.get("content-length", 0))
            return RawReply(status, headers, await reader.readexactly(length))
        finally:
            writer.transport.abort()


def request(
    method: str, target: str, body: bytes | None = None, *headers: str, version: str = "1.1"
) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {target} HTTP/{version}", "Host: cache.example:8080", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")
