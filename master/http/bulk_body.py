"""The values of many keys as the one JSON body of a bulk read; the API and the fast path both render it here."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from itertools import compress
from operator import itemgetter
from typing import Final, Protocol, cast

import msgspec

from master.http.problem import Problem, problem_of
from master.http.request_counters import Counters
from master.http.responses import Replies, is_stale, json_text, plain_text
from ringmaster.errors import RingmasterError
from ringmaster.protocol.entry import FLAGS_OFFSET, HEADER_SIZE, JSON, header, meta_of, value_offset
from ringmaster.protocol.keys import MAX_KEY
from ringmaster.runtime.cluster_clock import ClusterClock

FIRST_SLICE: Final = 512
"""Keys that are asked for together before anything is known of the size of their values."""

_MOST_SLICE: Final = 4096
_flags_of = itemgetter(FLAGS_OFFSET)

Answer = bytes | RingmasterError | None
"""An entry, what came instead of one, or None: there is none."""


class ManyReader(Protocol):
    """What a bulk read needs of `ringmaster.routing.router.Router`: one pipelined batch to each node, all in parallel."""

    async def read_many(self, wanted: Sequence[bytes], deadline: float) -> list[Answer]: ...


class BulkReads:
    """Counts hits and misses of what it renders in `counters`."""

    def __init__(
        self, router: ManyReader, replies: Replies, counters: Counters, clock: ClusterClock
    ) -> None:
        self._router = router
        self._replies = replies
        self._counters = counters
        self._clock = clock

    async def read(
        self,
        wanted: Sequence[bytes],
        errors: list[bytes],
        deadline: float,
        *,
        meta: bool,
        most: int,
    ) -> bytes:
        """The body of the reply; `errors`: JSON members that say what is wrong with other keys.

        Raises `Problem` 413 when the entries together have more than `most` bytes.
        """
        values: list[bytes] = []
        size = 0
        slices = _Slices(wanted)
        for batch in slices:
            answers = await self._router.read_many(batch, deadline)
            size += self._render(batch, answers, values, errors, meta=meta)
            if size > most:
                raise _too_large(most)
            slices.adapt(size, most)
        return _body(values, errors)

    def render(self, wanted: Sequence[bytes], answers: Sequence[Answer], most: int) -> bytes:
        """The same of `answers`, one for each of `wanted`, without meta."""
        values: list[bytes] = []
        errors: list[bytes] = []
        if self._render(wanted, answers, values, errors, meta=False) > most:
            raise _too_large(most)
        return _body(values, errors)

    def join(
        self, wanted: Sequence[bytes], values: list[bytes], most: int, *, plain: bool
    ) -> bytes:
        """The same of JSON texts, an empty one for each of `wanted` that is missing.

        `plain`: it is known that none of `wanted` needs escapes. One join of all parts takes a quarter of the time of
        one `%` for each. `tests/unit/master/fastpath/test_get_many.py` compares the two.
        """
        missing = values.count(b"")
        names = wanted
        if not plain and plain_text(b"".join(wanted)) is None:
            names = [json_text(key)[1:-1] for key in wanted]
        if missing:
            names = [*compress(names, values)]
            values = [value for value in values if value]
        count = len(values)
        self._counters.bulk_hits += count
        self._counters.bulk_misses += missing
        if not count:
            return _body((), ())
        parts = [b'":'] * (4 * count)
        parts[::4] = names
        parts[2::4] = values
        parts[3::4] = [b',"'] * count
        parts[-1] = b'},"errors":{}}'
        members = b"".join(parts)
        # Mostly even all of this is less than may come.
        headers = count * HEADER_SIZE
        if len(members) + headers > most and sum(map(len, values)) + headers > most:
            raise _too_large(most)
        return b'{"values":{"%b' % members

    def _render(
        self,
        wanted: Sequence[bytes],
        answers: Sequence[Answer],
        values: list[bytes],
        errors: list[bytes],
        *,
        meta: bool,
    ) -> int:
        """Add the members for `wanted`; returns the bytes of the entries."""
        # One look at all keys tells whether any needs escapes.
        plain = plain_text(b"".join(wanted)) is not None
        if plain and not meta and {*map(type, answers)} == {bytes}:
            found = cast(Sequence[bytes], answers)
            if {*map(_flags_of, found)} == {JSON}:
                values += [
                    b'"%b":%b' % (key, entry[HEADER_SIZE:])
                    for key, entry in zip(wanted, found, strict=True)
                ]
                self._counters.bulk_hits += len(found)
                return sum(map(len, found))
        size = 0
        for key, answer in zip(wanted, answers, strict=True):
            if answer is None:
                self._counters.bulk_misses += 1
                continue
            quoted = b'"%b"' % key if plain else json_text(key)
            if isinstance(answer, RingmasterError):
                errors.append(b"%b:%b" % (quoted, problem_text(answer, write=False)))
                continue
            self._counters.bulk_hits += 1
            size += len(answer)
            values.append(b"%b:%b" % (quoted, self._value(answer, meta=meta)))
        return size

    def _value(self, entry: bytes, *, meta: bool) -> bytes:
        if entry[FLAGS_OFFSET] == JSON and not meta:
            return entry[HEADER_SIZE:]
        decoded = header(entry)
        value = entry[value_offset(entry) :]
        if decoded.flags & JSON:
            if not meta:
                return value
            members = b'"value":%b' % value
        else:
            members = _binary(entry, value)
        if meta:
            version = self._replies.version(decoded.term, decoded.seq)
            left_ms = decoded.expires_ms - self._clock.now_ms()
            stale = decoded.expires_ms > 0 and is_stale(entry, left_ms)
            ttl = b"null"
            if decoded.expires_ms:
                ttl = b"%.3f" % ((left_ms if stale else max(left_ms, 0)) / 1000)
            members += b',"version":"%b","ttl":%b' % (version, ttl)
            if stale:
                members += b',"stale":true'
        return b"{%b}" % members


def plain_keys(texts: Sequence[str]) -> list[bytes] | None:
    """`texts` as keys, each once, if all are printable ASCII of a legal length, as they mostly are; else None."""
    joined = "".join(texts)
    if not (joined.isascii() and joined.isprintable()):
        return None
    return distinct_keys([text.encode() for text in texts]) if texts and all(texts) else None


def distinct_keys(listed: list[bytes]) -> list[bytes] | None:
    """Each of `listed`, of which none is empty, once; None if any is too long."""
    wanted = listed if len({*listed}) == len(listed) else [*dict.fromkeys(listed)]
    return wanted if max(map(len, wanted)) <= MAX_KEY else None


def problem_text(error: RingmasterError, *, write: bool) -> bytes:
    """`error` as the JSON object that stands for one item."""
    return msgspec.json.encode(problem_of(error, write=write).body())


def _body(values: Sequence[bytes], errors: Sequence[bytes]) -> bytes:
    return b'{"values":{%b},"errors":{%b}}' % (b",".join(values), b",".join(errors))


def _too_large(most: int) -> Problem:
    what = f"the values together have more than {most} bytes; ask for fewer keys at a time"
    return Problem(413, "too-large", what, max_bytes=most)


class _Slices:
    """Cuts a bulk read so that a slice of large values cannot fill the memory before the limit is noticed."""

    def __init__(self, wanted: Sequence[bytes]) -> None:
        self._wanted = wanted
        self._done = 0
        self._size = FIRST_SLICE

    def __iter__(self) -> Iterator[Sequence[bytes]]:
        while self._done < len(self._wanted):
            batch = self._wanted[self._done : self._done + self._size]
            self._done += len(batch)
            yield batch

    def adapt(self, size: int, most: int) -> None:
        """`size` bytes came so far, `most` may come: the next slice is what fits at that average."""
        average = max(size // self._done, 1)
        self._size = max(16, min((most - size) // average, _MOST_SLICE))


def _binary(entry: bytes, value: bytes) -> bytes:
    meta = meta_of(entry)
    content_type = msgspec.json.encode(meta.content_type or "application/octet-stream")
    members = b'"content_type":%b,"base64":"%b"' % (content_type, base64.b64encode(value))
    if meta.content_encoding:
        members += b',"content_encoding":%b' % msgspec.json.encode(meta.content_encoding)
    return members
