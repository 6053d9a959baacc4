"""/data/bulk: many entries in one request, each an item of its own: one that fails leaves the others alone."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from master import keys
from master.api.data import check_size, item_options, refusal
from master.api.exchange import Exchange
from master.api.items import Item, parse_item, parse_items, parse_keys
from master.api.problem import Problem, problem_of
from master.api.reply import Reply
from master.replies import Replies, json_text, plain_text
from ringmaster.clock import Clock
from ringmaster.commands import PLAIN, WriteReply, encode_options
from ringmaster.entry import HEADER_SIZE, JSON, header, meta_of, value_offset
from ringmaster.errors import BadRequest, RingmasterError

_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
_BREATH = 256
"""Items parsed between two turns of the loop: about a millisecond."""
_FLAGS = HEADER_SIZE - 1
_FIRST_SLICE = 512
_MOST_SLICE = 4096

Write = tuple[bytes, bytes, Sequence[bytes | int]]


class BulkRouter(Protocol):
    """What bulk requests need of `master.router.Router`: one pipelined batch to each node, all in parallel."""

    async def read_many(
        self, wanted: Sequence[bytes], deadline: float
    ) -> list[bytes | RingmasterError | None]: ...

    async def write_many(
        self, writes: Sequence[Write], deadline: float
    ) -> list[WriteReply | RingmasterError]: ...


class BulkApi:
    """Handlers of `/data/bulk`, `/data/bulk/get` and `/data/bulk/delete`. `hits`, `misses`: values read so far."""

    def __init__(self, router: BulkRouter, replies: Replies, clock: Clock) -> None:
        self._router = router
        self._replies = replies
        self._clock = clock
        self.hits = self.misses = 0

    async def write(self, exchange: Exchange) -> Reply:
        """`POST /data/bulk`: results in the order of the items."""
        exchange.parameters()
        body = await self._body(exchange)
        try:
            texts = parse_items(body, exchange.limits.max_items)
        except OverflowError as error:
            raise _too_many(exchange) from error
        results: list[bytes] = [b""] * len(texts)
        writes: list[Write] = []
        places: list[int] = []
        seen: set[bytes] = set()
        for place, text in enumerate(texts):
            if place % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            item = None
            try:
                item = parse_item(text)
                key = keys.key_of_text(item.key)
                write = self._write_of(exchange, key, item)
            except RingmasterError as error:
                results[place] = _failed(
                    item.key if item is not None else None, problem_of(error, write=True)
                )
                continue
            if key in seen:
                raise BadRequest(
                    f"the key {item.key[:100]!r} occurs twice; each key may be written once"
                )
            seen.add(key)
            writes.append(write)
            places.append(place)
        replies = await self._router.write_many(writes, exchange.deadline()) if writes else []
        for place, write, reply in zip(places, writes, replies, strict=True):
            results[place] = self._result(write[1], reply)
        return Reply.build(200, _HEADERS, b'{"results":[%b]}' % b",".join(results))

    async def read(self, exchange: Exchange) -> Reply:
        """`POST /data/bulk/get`: what is there, by key; `?meta=1` adds version and ttl."""
        meta = exchange.parameters("meta").get("meta", "0")
        if meta not in ("0", "1"):
            raise BadRequest("meta must be 0 or 1")
        with_meta, most = meta == "1", exchange.limits.max_bulk
        wanted, errors = self._keys(exchange, await self._body(exchange))
        values: list[bytes] = []
        size = 0
        deadline = exchange.deadline()
        slices = _Slices(wanted)
        for batch in slices:
            answers = await self._router.read_many(batch, deadline)
            # One look at all keys tells whether any needs escapes.
            plain = plain_text(b"".join(batch)) is not None
            for key, answer in zip(batch, answers, strict=True):
                if answer is None:
                    self.misses += 1
                    continue
                quoted = b'"%b"' % key if plain else json_text(key)
                if isinstance(answer, RingmasterError):
                    errors.append(b"%b:%b" % (quoted, _problem(answer, write=False)))
                    continue
                self.hits += 1
                size += len(answer)
                if size > most:
                    raise _too_large(exchange, "the values together have more than")
                if answer[_FLAGS] == JSON and not with_meta:
                    values.append(b"%b:%b" % (quoted, answer[HEADER_SIZE:]))
                else:
                    values.append(b"%b:%b" % (quoted, self._value(answer, meta=with_meta)))
            slices.adapt(size, most)
        body = b'{"values":{%b},"errors":{%b}}' % (b",".join(values), b",".join(errors))
        return Reply.build(200, _HEADERS, body)

    async def delete(self, exchange: Exchange) -> Reply:
        """`POST /data/bulk/delete`: how many there were."""
        exchange.parameters()
        wanted, errors = self._keys(exchange, await self._body(exchange))
        writes: list[Write] = [(b"RM.DEL", key, ()) for key in wanted]
        deleted = 0
        replies = await self._router.write_many(writes, exchange.deadline()) if writes else []
        for key, reply in zip(wanted, replies, strict=True):
            if isinstance(reply, RingmasterError):
                errors.append(b"%b:%b" % (json_text(key), _problem(reply, write=True)))
            else:
                deleted += reply.status == 0
        body = b'{"deleted":%d,"errors":{%b}}' % (deleted, b",".join(errors))
        return Reply.build(200, _HEADERS, body)

    async def _body(self, exchange: Exchange) -> bytes:
        for name in ("If-Match", "If-None-Match", "Fill-Token"):
            if exchange.request.headers.get(name) is not None:
                raise BadRequest(
                    f"{name} does not go with bulk requests; put if_match or if_none_match into the items"
                )
        exchange.require_json()
        return await exchange.body(exchange.limits.max_bulk)

    def _keys(self, exchange: Exchange, body: bytes) -> tuple[list[bytes], list[bytes]]:
        """The legal keys, each once, and the JSON members that say what is wrong with the others."""
        try:
            texts = parse_keys(body, exchange.limits.max_items)
        except OverflowError as error:
            raise _too_many(exchange) from error
        wanted: list[bytes] = []
        errors: list[bytes] = []
        joined = "".join(texts)
        if joined.isascii() and joined.isprintable():
            # Only a length can be wrong with them.
            wanted = [text.encode() for text in dict.fromkeys(texts)]
            if wanted and min(map(len, wanted)) > 0 and max(map(len, wanted)) <= keys.MAX_KEY:
                return wanted, errors
            wanted = []
        for text in dict.fromkeys(texts):
            try:
                wanted.append(keys.key_of_text(text))
            except BadRequest as error:
                errors.append(b"%b:%b" % (msgspec.json.encode(text), _problem(error, write=True)))
        return wanted, errors

    def _write_of(self, exchange: Exchange, key: bytes, item: Item) -> Write:
        check_size(item.value, exchange.limits.max_value)
        options = item_options(
            item.ttl, item.if_match, item.if_none_match, self._replies.salt.decode()
        )
        args = [item.value] if options == PLAIN else [item.value, encode_options(options)]
        return b"RM.SET", key, args

    def _result(self, key: bytes, reply: WriteReply | RingmasterError) -> bytes:
        text = key.decode()
        if isinstance(reply, RingmasterError):
            return _failed(text, problem_of(reply, write=True))
        refused = refusal(reply, self._replies)
        if refused is not None:
            if reply.term or reply.seq:
                refused.fields["version"] = self._replies.version(reply.term, reply.seq).decode()
            return _failed(text, refused)
        status = 201 if reply.status == 1 else 200
        version = self._replies.version(reply.term, reply.seq)
        return b'{"key":%b,"status":%d,"version":"%b"}' % (json_text(key), status, version)

    def _value(self, entry: bytes, *, meta: bool) -> bytes:
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
            left_ms = decoded.expires_ms - int(self._clock.wall() * 1000)
            ttl = b"%.3f" % (max(left_ms, 0) / 1000) if decoded.expires_ms else b"null"
            members += b',"version":"%b","ttl":%b' % (version, ttl)
        return b"{%b}" % members


class _Slices:
    """Cuts a bulk read so that a slice of large values cannot fill the memory before the limit is noticed."""

    def __init__(self, wanted: Sequence[bytes]) -> None:
        self._wanted = wanted
        self._done = 0
        self._size = _FIRST_SLICE

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


def _problem(error: RingmasterError, *, write: bool) -> bytes:
    return msgspec.json.encode(problem_of(error, write=write).body())


def _failed(key: str | None, problem: Problem) -> bytes:
    return msgspec.json.encode({"key": key, **problem.body()})


def _too_many(exchange: Exchange) -> Problem:
    most = exchange.limits.max_items
    return Problem(413, "too-large", f"at most {most} items go into one request", max_items=most)


def _too_large(exchange: Exchange, what: str) -> Problem:
    most = exchange.limits.max_bulk
    return Problem(
        413, "too-large", f"{what} {most} bytes; ask for fewer keys at a time", max_bytes=most
    )
