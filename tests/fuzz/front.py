"""A master's connections, with a node and aiohttp played: what comes of the bytes of a client, however they are cut."""

from __future__ import annotations

import asyncio
import atexit
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import httptools

from master.http.limits import Limits
from master.http.problem import Problem
from tests.unit.fake_wire import ticks
from tests.unit.master.fastpath.world import WRITTEN, Client, World, entry

REFUSED = b"refused"
"""Stands for the reply after which a connection closes: which of several faults it names depends on what has come."""

END = b"\r\n\r\n"
"""Ends whatever head is still incomplete, so that nothing is left undecided."""

_AGE = re.compile(rb"\r\nAge: \d+")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)")


@dataclass
class Transcript:
    """`asked`: the commands that reached the node. `handed`: the requests that reached aiohttp. `replies`: in their order."""

    asked: list[list[bytes]] = field(default_factory=list)
    handed: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]] = field(
        default_factory=list
    )
    replies: list[bytes] = field(default_factory=list)


class Reader:
    """Plays aiohttp: takes requests apart with llhttp, which must not find fault with any, and answers each."""

    def __init__(self, on_reply: Callable[[], None], transcript: Transcript) -> None:
        self._on_reply = on_reply
        self._transcript = transcript
        self._parser = httptools.HttpRequestParser(self)
        self._broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: BaseException | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserInvalidURLError:
            # The form of a target is the application's business. The request's end is not in doubt.
            self._break()

    def break_body(self, problem: Problem) -> None:
        assert problem.close
        self._break()

    def on_message_begin(self) -> None:
        self._url = self._body = b""
        self._fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method()
        fields = [each for each in self._fields if each[0] != b"transfer-encoding"]
        self._transcript.handed.append((method, self._url, fields, self._body))
        keeps = self._parser.should_keep_alive()
        asyncio.get_running_loop().call_soon(self._reply, keeps)

    def _break(self) -> None:
        if self._broken:
            return
        self._broken = True
        self._answer(b"HTTP/1.1 400 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self._transport.close()

    def _reply(self, keeps: bool) -> None:
        if keeps:
            self._answer(b"HTTP/1.1 299 Slow\r\nContent-Length: 0\r\n\r\n")
            self._on_reply()
        else:
            self._answer(b"HTTP/1.1 299 Last\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._transport.close()

    def _answer(self, raw: bytes) -> None:
        self._transport.write(raw)


class Front:
    """A fast path with one node behind it, and a loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._transcript = Transcript()
        self._loop.run_until_complete(self._start())

    def close(self) -> None:
        """Close the loop."""
        self._loop.run_until_complete(self._stop())
        self._loop.close()

    def transcript(self, pieces: Sequence[bytes]) -> Transcript:
        """What comes of `pieces`, sent by one client."""
        return self._loop.run_until_complete(self._played(pieces))

    async def _start(self) -> None:
        self.world = World(Limits(max_value=200, max_bulk=1000, max_items=5))
        self.world.path._fallback = self._reader  # type: ignore[assignment]
        await self.world.start()

    async def _stop(self) -> None:
        await self.world.path.close(0)
        await self.world.router.close()

    def _reader(self, on_reply: Callable[[], None]) -> Reader:
        return Reader(on_reply, self._transcript)

    async def _played(self, pieces: Sequence[bytes]) -> Transcript:
        transcript = self._transcript = Transcript()
        client = self.world.client()
        said = b""
        for piece in (*pieces, END):
            if client.closed:
                break
            client.receive(piece)
            if not client.reading:
                said += await self._settle(client, transcript)
        said += await self._settle(client, transcript)
        assert client.reading or client.closed, "a client is not read from any more"
        if not client.closed:
            client.lose()
        transcript.replies = _replies(said)
        return transcript

    async def _settle(self, client: Client, transcript: Transcript) -> bytes:
        """Let everything that was asked be answered."""
        context = self.world.path.context
        said = -1
        for _ in range(1000):
            await ticks(5)
            commands = self.world.aux.taken()
            transcript.asked += commands
            for command in commands:
                self.world.aux.receive(_answer(command))
            if not (commands or context.tasks) and said == len(client.writes):
                return client.said()
            said = len(client.writes)
        raise AssertionError("requests go on for ever")


def _answer(command: list[bytes]) -> bytes:
    name = command[0]
    if name == b"RM.GET":
        return _value(command[2])
    if name in (b"RM.MGET", b"RM.VALUES"):
        keys = command[2].split(b"\n") if name == b"RM.VALUES" else command[2::2]
        return b"*%d\r\n%b" % (len(keys), b"".join(map(_value, keys)))
    return WRITTEN % 1


def _value(key: bytes) -> bytes:
    """The key itself, so that it shows which request a reply belongs to."""
    return entry(b'"%b"' % key.hex().encode())


def _replies(said: bytes) -> list[bytes]:
    found = []
    while said:
        head, end, rest = said.partition(b"\r\n\r\n")
        assert end, f"half a reply: {said!r}"
        length = _LENGTH.search(head)
        size = 0 if length is None or head[9:12] == b"304" else int(length[1])
        assert len(rest) >= size, f"half a reply: {said!r}"
        closes = b"\r\nConnection: close" in head
        found.append(REFUSED if closes else _AGE.sub(b"", head) + end + rest[:size])
        said = rest[size:]
    assert REFUSED not in found[:-1], "a reply after the last one"
    return found


@cache
def front() -> Front:
    """The one that all inputs of a process share, as the clients of a master do."""
    made = Front()
    atexit.register(made.close)
    return made
