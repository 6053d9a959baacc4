"""Clients that speak HTTP: bytes into the real fast path of a simulated master, and what its replies say.

To the workload this is a router (`tests.sim.workload.Routes`): what the fast path serves, it asks there every other
time, and all else by the router itself.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import NoReturn

from master.fastpath.server import FastPath
from master.http.bulk_body import Answer
from master.http.limits import Limits
from master.http.origin_check import Authority
from master.http.request_counters import Counters
from master.http.responses import Replies
from ringmaster.errors import OutcomeUnknown, RingmasterError, Unserved
from ringmaster.protocol.entry import JSON, RESTORED, pack
from ringmaster.protocol.write_options import Status, WriteReply
from ringmaster.routing.fills import Filled
from ringmaster.routing.router import Router, Write
from ringmaster.runtime.clock import Clock
from tests.sim.calls import Bare
from tests.sim.loop import NodeLoop
from tests.unit.fake_wire import FakeTransport

Told = tuple[int, bytes, bytes]
"""Status, header lines and body."""

_reply = re.compile(rb"HTTP/1\.1 (\d+) [^\r\n]*\r\n(.*?)\r\n\r\n", re.DOTALL).match
_length = re.compile(rb"(?:^|\r\n)Content-Length: (\d+)").search
_version = re.compile(rb'ETag: "([0-9a-f]+)-([0-9a-f]+)-').search
_token = re.compile(rb"(?:^|\r\n)Fill-Token: ([0-9a-f.]+)").search
_DEADLINE_SLACK_S = 0.001


def fast_path(router: Router, clock: Clock, deadline_s: float) -> FastPath:
    """The real one. Nothing that these clients send may be left to aiohttp."""

    def fallback(_on_reply: Callable[[], None]) -> NoReturn:
        raise AssertionError("a plain request was left to aiohttp")

    limits = Limits(deadline_s=deadline_s)
    return FastPath(router, Replies(clock), Counters(), Authority(), limits, clock, fallback)


class Front:
    """One client's connection to `path` on the master's `loop`. `random` decides which calls take it."""

    def __init__(self, path: FastPath, loop: NodeLoop, random: Random) -> None:
        self._path = path
        self._loop = loop
        self._router = path.context.router
        self._random = random
        self._client = _Client(path)

    async def read(self, key: bytes, deadline: float) -> bytes | None:
        if not self._goes_by_http(deadline):
            return await self._router.read(key, deadline)
        return _entry(key, await self._client.ask(b"GET", b"/data/" + key))

    async def invalidate(self, tags: Sequence[bytes], deadline: float) -> None:
        await self._router.invalidate(tags, deadline)

    async def fetch(self, key: bytes, wait_s: int, deadline: float) -> Filled:
        if wait_s and self._random.random() < 0.5:
            told = await self._client.ask(b"GET", b"/data/" + key, wait_s=wait_s)
            token = _token(told[1])
            return Filled(_entry(key, told), "" if token is None else token[1].decode())
        fills = self._router.fills
        return await fills.result(fills.begin(key, waits=wait_s > 0), deadline, deadline)

    def hang_up(self) -> None:
        self._client.lose()
        self._client = _Client(self._path)

    async def head(self, key: bytes, deadline: float) -> tuple[bytes, int] | None:
        return await self._router.head(key, deadline)

    async def write(
        self, command: bytes, key: bytes, args: Sequence[bytes | int], deadline: float
    ) -> WriteReply:
        plain = command == b"RM.SET" and len(args) == 1
        if not plain or not self._goes_by_http(deadline):
            return await self._router.write(command, key, args, deadline)
        item = b'{"key":"%b","value":%b}' % (key, args[0])
        return _written(await self._client.ask(b"POST", b"/data", item))

    async def pipeline(
        self, requests: Sequence[tuple[bytes, bytes | None]]
    ) -> AsyncIterator[WriteReply | bytes | RingmasterError | None]:
        """See `tests.sim.workload.Pipelined`."""
        raw = b"".join(
            _request(b"GET", b"/data/" + key)
            if value is None
            else _request(b"POST", b"/data", b'{"key":"%b","value":%b}' % (key, value))
            for key, value in requests
        )
        self._client.send(raw)
        for key, value in requests:
            told = await self._client.reply()
            try:
                yield _entry(key, told) if value is None else _written(told)
            except RingmasterError as error:
                yield error

    async def read_many(self, keys: Sequence[bytes], deadline: float) -> Sequence[Answer]:
        if not self._goes_by_http(deadline):
            return await self._router.read_many(keys, deadline)
        listed = json.dumps([key.decode() for key in keys]).encode()
        status, _, body = await self._client.ask(b"POST", b"/data/bulk/get", listed)
        if status != 200:
            raise _error(status, body, write=False)
        told = json.loads(body)
        return [
            Bare(json.dumps(told["values"][key.decode()]).encode())
            if key.decode() in told["values"]
            else Unserved(str(told["errors"][key.decode()]))
            if key.decode() in told["errors"]
            else None
            for key in keys
        ]

    async def write_many(
        self, writes: Sequence[Write], deadline: float
    ) -> Sequence[WriteReply | RingmasterError]:
        return await self._router.write_many(writes, deadline)

    def _goes_by_http(self, deadline: float) -> bool:
        """The fast path has one deadline for all; a call whose own is earlier cannot take it."""
        now = self._loop.boottime_at(self._loop.true_now())
        usual = now + self._path.context.limits.deadline_s
        return deadline >= usual - _DEADLINE_SLACK_S and self._random.random() < 0.5


class _Client(FakeTransport):
    """Asks one thing after the other on one connection."""

    def __init__(self, path: FastPath) -> None:
        self._waiting: asyncio.Future[None] | None = None
        protocol = path.protocol()
        super().__init__(protocol)
        protocol.connection_made(self)

    def write(self, data: bytes) -> None:
        super().write(data)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def get_write_buffer_size(self) -> int:
        return 0

    async def ask(
        self, method: bytes, target: bytes, body: bytes | None = None, wait_s: int = 0
    ) -> Told:
        """The reply to one request."""
        self.send(_request(method, target, body, wait_s))
        return await self.reply()

    def send(self, raw: bytes) -> None:
        """One or more requests, in one segment."""
        assert not self.closed
        self.receive(raw)

    async def reply(self) -> Told:
        """The next reply."""
        while (found := self._cut()) is None:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return found

    def _cut(self) -> Told | None:
        raw = b"".join(self.writes)
        found = _reply(raw)
        if found is None:
            return None
        length = _length(found[2])
        size = int(length[1]) if length is not None else 0
        end = found.end() + size
        if len(raw) < end:
            return None
        self.writes[:] = [raw[end:]] if len(raw) > end else []
        return int(found[1]), found[2] + b"\r\n", raw[found.end() : end]


def _request(method: bytes, target: bytes, body: bytes | None = None, wait_s: int = 0) -> bytes:
    length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
    if wait_s:
        length += b"Prefer: wait=%d\r\n" % wait_s
    head = b"%b %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (method, target, length)
    return head + (body or b"")


def _entry(key: bytes, told: Told) -> bytes | None:
    """What a read brought, as an entry."""
    status, head, body = told
    if status == 404:
        return None
    if status != 200:
        raise _error(status, body, write=False)
    plain = b"Content-Type: application/json\r\n" in head
    restored = RESTORED * (b"detail=restored" in head)
    term, seq = _version_in(head)
    return pack(
        slot=0, term=term, seq=seq, expires_ms=0, written_s=0, meta=b"",
        flags=JSON * plain | restored, value=_value_of(key, body) if plain else body,
    )  # fmt: skip


def _written(told: Told) -> WriteReply:
    status, head, body = told
    if status not in {200, 201}:
        raise _error(status, body, write=True)
    return WriteReply(Status.CREATED if status == 201 else Status.REPLACED, *_version_in(head), 0)


def _value_of(key: bytes, body: bytes) -> bytes:
    """Of the envelope around a JSON value, as it was stored."""
    begin, end = b'{"key":"%b","value":' % key, b"}"
    assert body.startswith(begin)
    assert body.endswith(end)
    return body[len(begin) : -len(end)]


def _version_in(head: bytes) -> tuple[int, int]:
    found = _version(head)
    assert found is not None
    return int(found[1], 16), int(found[2], 16)


def _error(status: int, body: bytes, *, write: bool) -> RingmasterError:
    told = json.loads(body)
    if status == 503 and (not write or told["outcome"] == "not-applied"):
        return Unserved(told["detail"])
    if status == 503 and told["outcome"] == "unknown":
        return OutcomeUnknown(told["detail"])
    raise AssertionError(f"{status}: {body!r}")
