"""A Router with one dict behind it in place of nodes: the semantics of an aux server, none of its machinery."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ringmaster.errors import BadRequest, RingmasterError
from ringmaster.protocol.entry import (
    JSON,
    Header,
    header,
    meta_of,
    pack,
    raw_meta,
    value_offset,
)
from ringmaster.protocol.write_options import (
    PLAIN,
    Status,
    Version,
    WriteOptions,
    WriteReply,
    decode_options,
)
from ringmaster.routing.copies import Copies
from ringmaster.routing.table import LocalRoute
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.fakes.fills import FakeFills

TERM = 7


class FakeRouter:
    """`failure` is raised by every request while it is set; `asked` counts the requests that came.

    `batches`: how many writes came together. `most_batches`: how many such batches there were at one time.
    """

    def __init__(self, clock: ClusterClock) -> None:
        self._clock = clock
        self._entries: dict[bytes, bytes] = {}
        self._seq = 0
        self.fills = FakeFills(clock, self._current)
        self.copies = Copies(clock, lambda _key: None, 0)
        self.here = LocalRoute("m1")
        self.failure: RingmasterError | None = None
        self.failing_keys: dict[bytes, RingmasterError] = {}
        self.asked = 0
        self.deadlines: list[float] = []
        self.batches: list[int] = []
        self.most_batches = 0
        self._batches_now = 0

    def plant(self, key: bytes) -> None:
        """Store a key that no master would let in."""
        self._entries[key] = pack(
            slot=0, term=TERM, seq=1, expires_ms=0, written_s=1, flags=JSON, meta=b"", value=b"1"
        )

    def node_of(self, key: bytes) -> bytes:
        return b"aux1"

    async def read(self, key: bytes, deadline: float) -> bytes | None:
        self._ask(key, deadline)
        return self._current(key)

    async def head(self, key: bytes, deadline: float) -> tuple[bytes, int] | None:
        entry = await self.read(key, deadline)
        if entry is None:
            return None
        offset = value_offset(entry)
        return entry[:offset], len(entry) - offset

    async def write(
        self, command: bytes, key: bytes, args: Sequence[bytes | int], deadline: float
    ) -> WriteReply:
        self._ask(key, deadline)
        if command == b"RM.GIVEUP":
            return self._give_up(key, args)
        expected = {b"RM.SET": 1, b"RM.DEL": 0, b"RM.INCR": 1, b"RM.TOUCH": 0}[command]
        assert len(args) in (expected, expected + 1)
        options = PLAIN
        if len(args) > expected:
            packed = args[expected]
            assert isinstance(packed, bytes)
            options = decode_options(packed)
        if options.fill_token and not self.fills.is_good(key, options.fill_token):
            return self._fill_lost(key)
        reply = self._apply(command, key, args, options)
        if reply.status in {Status.CREATED, Status.REPLACED} or command == b"RM.DEL":
            self.fills.ended(key)
        return reply

    def _give_up(self, key: bytes, args: Sequence[bytes | int]) -> WriteReply:
        assert isinstance(args[0], bytes)
        if not self.fills.is_good(key, args[0].decode()):
            return self._fill_lost(key)
        self.fills.ended(key)
        return self._answer(Status.REPLACED, None)

    def _fill_lost(self, key: bytes) -> WriteReply:
        entry = self._current(key)
        return self._answer(Status.FILL_LOST, None if entry is None else header(entry))

    def _apply(
        self, command: bytes, key: bytes, args: Sequence[bytes | int], options: WriteOptions
    ) -> WriteReply:
        entry = self._current(key)
        head = None if entry is None else header(entry)
        if command == b"RM.TOUCH" and entry is None:
            return self._answer(Status.ABSENT, None)
        if not _allowed(options, head):
            return self._answer(Status.CONDITION_FAILED, head)
        if command == b"RM.SET":
            return self._put(key, args[0], options, existed=entry is not None)
        if command == b"RM.DEL":
            self._entries.pop(key, None)
            return self._answer(Status.ABSENT if entry is None else Status.REPLACED, None)
        if command == b"RM.INCR":
            return self._count(key, args[0], options, entry)
        assert entry is not None
        return self._touch(key, options, entry)

    async def read_many(
        self, wanted: Sequence[bytes], deadline: float
    ) -> list[bytes | RingmasterError | None]:
        found: list[bytes | RingmasterError | None] = []
        for key in wanted:
            try:
                found.append(await self.read(key, deadline))
            except RingmasterError as error:
                found.append(error)
        return found

    async def write_many(
        self, writes: Sequence[tuple[bytes, bytes, Sequence[bytes | int]]], deadline: float
    ) -> list[WriteReply | RingmasterError]:
        replies: list[WriteReply | RingmasterError] = []
        self.batches.append(len(writes))
        self._batches_now += 1
        self.most_batches = max(self.most_batches, self._batches_now)
        await asyncio.sleep(0.001)
        self._batches_now -= 1
        for command, key, args in writes:
            try:
                replies.append(await self.write(command, key, args, deadline))
            except RingmasterError as error:
                replies.append(error)
        return replies

    async def invalidate(self, tags: Sequence[bytes], deadline: float) -> None:
        self._ask(b"", deadline)
        wanted = {tag.decode() for tag in tags}
        for key, entry in list(self._entries.items()):
            if wanted & set(meta_of(entry).tags):
                del self._entries[key]
                self.fills.ended(key)

    async def scan(
        self, prefix: bytes, limit: int, cursor: str | None, deadline: float
    ) -> tuple[list[bytes], str | None]:
        self._ask(prefix, deadline)
        if cursor is not None and not cursor.isdigit():
            raise BadRequest("the cursor is none of ours; begin without one")
        start = int(cursor or 0)
        found = [key for key in sorted(self._entries) if key.startswith(prefix)]
        page = found[start : start + limit]
        return page, str(start + limit) if start + limit < len(found) else None

    def _ask(self, key: bytes, deadline: float) -> None:
        self.asked += 1
        self.deadlines.append(deadline)
        if self.failure is not None:
            raise self.failure
        if key in self.failing_keys:
            raise self.failing_keys[key]

    def _current(self, key: bytes) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires_ms = header(entry).expires_ms
        if expires_ms and expires_ms + meta_of(entry).swr_ms <= self._clock.now_ms():
            del self._entries[key]
            return None
        return entry

    def _put(
        self, key: bytes, value: bytes | int, options: WriteOptions, *, existed: bool
    ) -> WriteReply:
        assert isinstance(value, bytes)
        entry = self._pack(value, options.flags, options.meta, self._expiry(options.ttl_ms))
        self._entries[key] = entry
        return self._answer(Status.REPLACED if existed else Status.CREATED, header(entry))

    def _count(
        self, key: bytes, by: bytes | int, options: WriteOptions, entry: bytes | None
    ) -> WriteReply:
        value, expires_ms, flags, meta = b"0", self._expiry(options.ttl_ms), JSON, b""
        if entry is not None:
            value, expires_ms = entry[value_offset(entry) :], header(entry).expires_ms
            flags, meta = header(entry).flags, raw_meta(entry)
        if not value.removeprefix(b"-").isdigit():
            return self._answer(Status.NOT_INTEGER, entry and header(entry))
        number = int(value) + int(by)
        if not -(2**63) <= number < 2**63:
            return self._answer(Status.OVERFLOW, entry and header(entry))
        written = self._pack(b"%d" % number, flags, meta, expires_ms)
        self._entries[key] = written
        status = Status.CREATED if entry is None else Status.REPLACED
        return self._answer(status, header(written))._replace(number=number)

    def _touch(self, key: bytes, options: WriteOptions, entry: bytes) -> WriteReply:
        old = header(entry)
        self._entries[key] = pack(
            slot=0,
            term=old.term,
            seq=old.seq,
            expires_ms=self._expiry(options.ttl_ms),
            written_s=old.written_s,
            flags=old.flags,
            meta=raw_meta(entry),
            value=entry[value_offset(entry) :],
        )
        return self._answer(Status.REPLACED, header(self._entries[key]))

    def _pack(self, value: bytes, flags: int, meta: bytes, expires_ms: int) -> bytes:
        self._seq += 1
        return pack(
            slot=0,
            term=TERM,
            seq=self._seq,
            expires_ms=expires_ms,
            written_s=self._clock.now_ms() // 1000,
            flags=flags,
            meta=meta,
            value=value,
        )

    def _expiry(self, ttl_ms: int) -> int:
        return self._clock.now_ms() + ttl_ms if ttl_ms else 0

    def _answer(self, status: Status, head: Header | None) -> WriteReply:
        if head is None:
            return WriteReply(status, 0, 0, 0)
        return WriteReply(status, head.term, head.seq, head.expires_ms)


def _allowed(options: WriteOptions, head: Header | None) -> bool:
    current: Version | None = None if head is None else (head.term, head.seq)

    def states(condition: str | tuple[Version, ...]) -> bool:
        return current is not None and (condition == "*" or current in condition)

    if options.if_match is not None and not states(options.if_match):
        return False
    return options.if_none_match is None or not states(options.if_none_match)
