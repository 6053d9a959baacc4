"""/data/bulk: many entries in one request, each an item of its own: one that fails leaves the others alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from master.api.request import Exchange
from master.api.response import Reply
from master.http.access import MissingRight
from master.http.bulk_body import BulkReads, plain_keys, problem_text
from master.http.json_bodies import Item, key_in, parse_item, parse_items, parse_keys
from master.http.problem import Problem, problem_of
from master.http.responses import Replies, json_text
from master.http.target import key_of_text
from master.http.write_rules import check_size, item_options, refusal
from ringmaster.errors import BadRequest, RingmasterError, Shed
from ringmaster.protocol.write_options import PLAIN, WriteOptions, WriteReply, encode_options

_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
_BREATH = 256
_BREATH_BYTES = 2**20
"""Items, and bytes of them, parsed between two turns of the loop: about a millisecond."""

_LARGE = 2**20
"""Bodies of more bytes are dealt with one at a time: each is in memory three times meanwhile."""

_SLICE_BYTES = 2 * 2**20
"""Of values sent to nodes together: what others ask of the same node waits behind them."""

Write = tuple[bytes, bytes, Sequence[bytes | int]]


class BulkRouter(Protocol):
    """What bulk requests need of `ringmaster.routing.router.Router`: one pipelined batch to each node, all in parallel."""

    async def write_many(
        self, writes: Sequence[Write], deadline: float
    ) -> list[WriteReply | RingmasterError]: ...


class BulkApi:
    """Handlers of `/data/bulk`, `/data/bulk/get` and `/data/bulk/delete`."""

    def __init__(self, router: BulkRouter, replies: Replies, reads: BulkReads) -> None:
        self._router = router
        self._replies = replies
        self._reads = reads
        self._one_large = asyncio.Semaphore(1)

    async def write(self, exchange: Exchange) -> Reply:
        """`POST /data/bulk`: results in the order of the items."""
        exchange.parameters()
        body = await self._body(exchange)
        deadline = exchange.deadline()
        if len(body) <= _LARGE:
            return await self._write(exchange, _texts_in(body, exchange), deadline)
        try:
            async with asyncio.timeout(exchange.limits.deadline_s / 2):
                await self._one_large.acquire()
        except TimeoutError as error:
            raise Shed("too many large requests at one time; retry in a moment") from error
        try:
            texts = _texts_in(body, exchange)
            del body
            return await self._write(exchange, texts, deadline)
        finally:
            self._one_large.release()

    async def _write(self, exchange: Exchange, texts: list[bytes], deadline: float) -> Reply:
        """Write the items that `texts` are; it is empty afterwards."""
        results: list[bytes] = [b""] * len(texts)
        writes: list[Write] = []
        places: list[int] = []
        seen: set[bytes] = set()
        items = size = 0
        texts.reverse()
        for place in range(len(texts)):
            text = texts.pop()
            items, size = items + 1, size + len(text)
            if items >= _BREATH or size >= _BREATH_BYTES:
                items = size = 0
                await asyncio.sleep(0)
            item = None
            try:
                item = parse_item(text)
                key = key_of_text(item.key)
                exchange.access.require_key("write", key)
                write = self._write_of(exchange, key, item)
            except RingmasterError as error:
                name = item.key if item is not None else key_in(text)
                results[place] = _failed(name, problem_of(error, write=True))
                continue
            if key in seen:
                raise BadRequest(
                    f"the key {item.key[:100]!r} occurs twice; each key may be written once"
                )
            seen.add(key)
            writes.append(write)
            places.append(place)
        replies: list[WriteReply | RingmasterError] = []
        for batch in _slices(writes):
            replies += await self._router.write_many(batch, deadline)
        for place, write, reply in zip(places, writes, replies, strict=True):
            results[place] = self._result(write[1], reply)
        return Reply.build(200, _HEADERS, b'{"results":[%b]}' % b",".join(results))

    async def read(self, exchange: Exchange) -> Reply:
        """`POST /data/bulk/get`: what is there, by key; `?meta=1` adds version and ttl."""
        meta = exchange.parameters("meta").get("meta", "0")
        if meta not in ("0", "1"):
            raise BadRequest("meta must be 0 or 1")
        wanted, errors = self._keys(exchange, await self._body(exchange), "read")
        body = await self._reads.read(
            wanted,
            errors,
            exchange.deadline(),
            meta=meta == "1",
            most=exchange.limits.max_bulk,
        )
        return Reply.build(200, _HEADERS, body)

    async def delete(self, exchange: Exchange) -> Reply:
        """`POST /data/bulk/delete`: how many there were."""
        exchange.parameters()
        wanted, errors = self._keys(exchange, await self._body(exchange), "write")
        by = exchange.access.token
        args = (encode_options(WriteOptions(by=by)),) if by else ()
        writes: list[Write] = [(b"RM.DEL", key, args) for key in wanted]
        deleted = 0
        replies = await self._router.write_many(writes, exchange.deadline()) if writes else []
        for key, reply in zip(wanted, replies, strict=True):
            if isinstance(reply, RingmasterError):
                errors.append(b"%b:%b" % (json_text(key), problem_text(reply, write=True)))
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

    def _keys(self, exchange: Exchange, body: bytes, right: str) -> tuple[list[bytes], list[bytes]]:
        """The keys that are legal and that the sender has `right` for, each once; and the JSON members that say what is
        wrong with the others.
        """
        try:
            texts = parse_keys(body, exchange.limits.max_items)
            exchange.cost(len(texts))
        except OverflowError as error:
            raise _too_many(exchange) from error
        plain = plain_keys(texts)
        if plain is not None and not exchange.access.prefixes:
            return plain, []
        wanted: list[bytes] = []
        errors: list[bytes] = []
        for text in dict.fromkeys(texts):
            try:
                key = key_of_text(text)
                exchange.access.require_key(right, key)
                wanted.append(key)
            except (BadRequest, MissingRight) as error:
                errors.append(
                    b"%b:%b" % (json.dumps(text).encode(), problem_text(error, write=True))
                )
        return wanted, errors

    def _write_of(self, exchange: Exchange, key: bytes, item: Item) -> Write:
        check_size(item.value, exchange.limits.max_value)
        options = item_options(item, self._replies.salt.decode())
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


def _texts_in(body: bytes, exchange: Exchange) -> list[bytes]:
    try:
        texts = parse_items(body, exchange.limits.max_items)
        exchange.cost(len(texts))
        return texts
    except OverflowError as error:
        raise _too_many(exchange) from error


def _slices(writes: list[Write]) -> Iterator[list[Write]]:
    """`writes` in their order, `_SLICE_BYTES` or one of them at a time."""
    batch: list[Write] = []
    size = 0
    for write in writes:
        value = write[2][0]
        length = len(value) if isinstance(value, bytes) else 0
        if batch and size + length > _SLICE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(write)
        size += length
    if batch:
        yield batch


def _failed(key: str | None, problem: Problem) -> bytes:
    return msgspec.json.encode({"key": key, **problem.body()})


def _too_many(exchange: Exchange) -> Problem:
    most = exchange.limits.max_items
    return Problem(413, "too-large", f"at most {most} items go into one request", max_items=most)
