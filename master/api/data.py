"""/data: one entry at a time.

A handler turns the request into one command for the primary, conditions included, so that they are decided there and
atomically; then it turns the answer into a reply. Nothing is decided here from what was read before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from aiohttp import web

from master.api.explain import NAME as EXPLAIN
from master.api.explain import check_explain
from master.api.listing import render_page
from master.api.ranges import parse_range
from master.api.request import Exchange
from master.api.response import Reply
from master.http.conditions import Condition, holds, parse_header
from master.http.json_bodies import parse_item
from master.http.preferences import applied
from master.http.problem import Problem
from master.http.responses import Replies
from master.http.target import (
    Parameters,
    check_parameters,
    integer_of_text,
    key_of_target,
    key_of_text,
    seconds_of_text,
)
from master.http.write_rules import (
    INVALIDATES,
    check_size,
    check_tags,
    condition_failed,
    grace,
    item_options,
    refusal,
)
from ringmaster.errors import BadRequest
from ringmaster.protocol.entry import JSON, header
from ringmaster.protocol.entry_meta import MAX_META, Meta, pack_meta
from ringmaster.protocol.keys import MAX_KEY
from ringmaster.protocol.write_options import (
    PLAIN,
    Status,
    WriteOptions,
    WriteReply,
    encode_options,
)
from ringmaster.routing.fills import FillDesk, Filled

_INT64 = (-(2**63), 2**63 - 1)
_PAGE = 1000
_MOST_PAGE = 10_000
_DEFAULT_TYPE = "application/octet-stream"


class DataRouter(Protocol):
    """What `/data` needs of `ringmaster.routing.router.Router`; see there and `docs/internals.md`."""

    async def read(self, key: bytes, deadline: float) -> bytes | None: ...

    async def head(self, key: bytes, deadline: float) -> tuple[bytes, int] | None: ...

    async def write(
        self, command: bytes, key: bytes, args: list[bytes | int], deadline: float
    ) -> WriteReply: ...

    async def invalidate(self, tags: Sequence[bytes], deadline: float) -> None: ...

    async def scan(
        self, prefix: bytes, limit: int, cursor: str | None, deadline: float
    ) -> tuple[list[bytes], str | None]: ...

    def node_of(self, key: bytes) -> bytes: ...

    @property
    def fills(self) -> FillDesk: ...


class Explainer(Protocol):
    """What `/data` needs of `master.api.explain.ExplainApi`."""

    async def show(self, exchange: Exchange, key: bytes) -> Reply: ...


class DataApi:
    """Handlers of `/data` and `/data/{key}`."""

    def __init__(self, router: DataRouter, replies: Replies, explainer: Explainer) -> None:
        self._router = router
        self._replies = replies
        self._explainer = explainer

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """`GET`, `HEAD` of a key; `GET /data?prefix=`."""
        key, parameters = key_of_target(exchange.target)
        if key is None:
            return await self._scan(exchange, parameters)
        exchange.access.require_key("read", key)
        if EXPLAIN in parameters:
            check_explain(parameters, exchange.method)
            return await self._explainer.show(exchange, key)
        check_parameters(parameters)
        if_match, if_none_match = self._conditions(exchange)
        wait_s = exchange.wait_s()
        if exchange.method == "HEAD":
            return await self._head(exchange, key, if_match, if_none_match)
        if wait_s is None or not exchange.access.permits("write", key):
            entry = await self._router.read(key, exchange.deadline())
            return self._got(exchange, key, entry, if_match, if_none_match)
        filled = await self._read_or_wait(exchange, key, wait_s)
        more = applied(wait_s, filled.fill_token) if filled.waited else b""
        try:
            return self._got(exchange, key, filled.entry, if_match, if_none_match, more)
        except Problem:
            if filled.fill_token:
                # The client does not hear of it.
                self._router.fills.left(key, filled.fill_token)
            raise

    def _got(
        self,
        exchange: Exchange,
        key: bytes,
        entry: bytes | None,
        if_match: Condition,
        if_none_match: Condition,
        more: bytes = b"",
    ) -> Reply:
        """The reply to a `GET` that found `entry`; `more`: header lines. Raises `Problem` 412 or 416."""
        if entry is None:
            return self._miss(exchange, more=more)
        exchange.outcome = "hit"
        node = self._router.node_of(key)
        early = self._unless(entry, node, if_match, if_none_match, more)
        if early is not None:
            return early
        if exchange.request.headers.get("Range") is not None:
            return self._part(exchange, key, entry, node, more)
        return Reply.of_bytes(self._replies.hit(key, entry, node, more))

    async def _read_or_wait(self, exchange: Exchange, key: bytes, wait_s: int) -> Filled:
        """What became of a read that waits. Who misses is the one to fill the key, or waits for that (R12)."""
        fills = self._router.fills
        answer_by, until = exchange.patience(wait_s)
        # A node counts hits and misses of reads; who asks for a place in the line has been counted.
        entry = await self._router.read(key, min(answer_by, until))
        if entry is not None and not self._replies.is_stale(entry):
            return Filled(entry)
        ask = fills.begin(key, waits=wait_s > 0)
        gone = partial(fills.drop, ask)
        exchange.when_lost(gone)
        try:
            filled = await fills.result(ask, answer_by, until)
        except BaseException:
            fills.drop(ask)
            raise
        finally:
            # It would keep the entry for as long as the connection.
            exchange.not_when_lost(gone)
        if exchange.holder_has_gone:
            fills.drop(ask)
        elif filled.fill_token and not exchange.is_proxied:
            exchange.when_lost(partial(fills.left, key, filled.fill_token))
        return filled

    async def post(self, exchange: Exchange) -> web.StreamResponse:
        """`POST /data` with an item; `POST /data/{key}?incr=` or `?ttl=`."""
        key, parameters = key_of_target(exchange.target)
        if key is not None:
            exchange.access.require_key("write", key)
            return await self._operate(exchange, key, parameters)
        check_parameters(parameters)
        exchange.require_json()
        conditions = self._conditions(exchange)
        item = parse_item(await exchange.body(exchange.limits.max_item))
        key = key_of_text(item.key)
        exchange.access.require_key("write", key)
        check_size(item.value, exchange.limits.max_value)
        options = item_options(item, self._salt, conditions, exchange.fill_token())
        reply = await self._write(b"RM.SET", key, [item.value], options, exchange)
        return Reply.of_bytes(self._replies.posted(key, reply))

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """`PUT`: the body is the value."""
        key, parameters = exchange.key()
        exchange.access.require_key("write", key)
        check_parameters(parameters, "ttl", "swr", "tag")
        if exchange.header("Content-Range") is not None:
            raise BadRequest("PUT replaces the whole value; leave Content-Range out")
        if_match, if_none_match = self._conditions(exchange)
        ttl_ms = _ttl(parameters)
        swr_ms = seconds_of_text(parameters["swr"][0], "swr") if "swr" in parameters else 0
        options = WriteOptions(
            ttl_ms=ttl_ms,
            flags=0,
            meta=_meta(exchange, check_tags(parameters.get("tag")), grace(swr_ms, ttl_ms)),
            if_match=if_match,
            if_none_match=if_none_match,
            fill_token=exchange.fill_token(),
        )
        value = await exchange.body(exchange.limits.max_value)
        reply = await self._write(b"RM.SET", key, [value], options, exchange)
        return Reply.of_bytes(self._replies.put(key, reply))

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """`DELETE`: 204 whether or not there was an entry."""
        key, parameters = key_of_target(exchange.target)
        if "tag" in parameters:
            return await self._invalidate(exchange, key, parameters)
        if key is None:
            raise BadRequest(
                "what is to be deleted? write DELETE /data/{key}, DELETE /data?key={key} or DELETE /data?tag={tag}"
            )
        exchange.access.require_key("write", key)
        check_parameters(parameters)
        if_match, if_none_match = self._conditions(exchange)
        fill_token = exchange.fill_token()
        if fill_token:
            if if_match is not None or if_none_match is not None:
                raise BadRequest("a DELETE with Fill-Token gives that up; leave conditions out")
            await self._send(b"RM.GIVEUP", key, [fill_token.encode()], exchange)
        else:
            options = WriteOptions(
                if_match=if_match, if_none_match=if_none_match, by=exchange.access.token
            )
            await self._write(b"RM.DEL", key, [], options, exchange)
        return Reply.of_bytes(self._replies.deleted())

    async def _invalidate(
        self, exchange: Exchange, key: bytes | None, parameters: Parameters
    ) -> Reply:
        """`DELETE /data?tag=`: what carries one of the tags is gone for every reader once this returns."""
        check_parameters(parameters, "tag")
        if key is not None:
            raise BadRequest("an entry is deleted by its key or by its tags; leave one of them out")
        if self._conditions(exchange) != (None, None) or exchange.fill_token():
            raise BadRequest(
                "conditions and fill tokens go with a key, not with tags; leave them out"
            )
        tags = check_tags(parameters["tag"], INVALIDATES)
        for tag in tags:
            exchange.access.require_tag(tag)
        await self._router.invalidate([tag.encode() for tag in tags], exchange.deadline())
        return Reply.of_bytes(self._replies.deleted())

    async def _operate(self, exchange: Exchange, key: bytes, parameters: Parameters) -> Reply:
        check_parameters(parameters, "incr", "ttl")
        if not parameters:
            raise BadRequest(
                "POST to a key takes ?incr=n or ?ttl=s; to write a value use PUT, or POST /data"
            )
        await exchange.refuse_body()
        if_match, if_none_match = self._conditions(exchange)
        options = WriteOptions(
            ttl_ms=_ttl(parameters),
            flags=JSON,
            if_match=if_match,
            if_none_match=if_none_match,
            fill_token=exchange.fill_token(),
        )
        if "incr" in parameters:
            number = integer_of_text(parameters["incr"][0], "incr", *_INT64)
            reply = await self._write(b"RM.INCR", key, [number], options, exchange)
            return Reply.of_bytes(self._replies.counted(key, reply))
        reply = await self._write(b"RM.TOUCH", key, [], options, exchange)
        if reply.status == Status.ABSENT:
            raise Problem(404, "no-such-key", "there is no entry with this key")
        return Reply.of_bytes(self._replies.posted(key, reply))

    async def _write(
        self,
        command: bytes,
        key: bytes,
        args: list[bytes | int],
        options: WriteOptions,
        exchange: Exchange,
    ) -> WriteReply:
        """Raises `Problem` 412 or 409 for the answers that are no success."""
        # The last argument may be left out for a plain JSON write; the aux has the same defaults.
        sent = args if options == PLAIN else [*args, encode_options(options)]
        return await self._send(command, key, sent, exchange)

    async def _send(
        self, command: bytes, key: bytes, args: list[bytes | int], exchange: Exchange
    ) -> WriteReply:
        reply = await self._router.write(command, key, args, exchange.deadline())
        refused = refusal(reply, self._replies)
        if refused is not None:
            raise refused
        return reply

    async def _head(
        self, exchange: Exchange, key: bytes, if_match: Condition, if_none_match: Condition
    ) -> Reply:
        found = await self._router.head(key, exchange.deadline())
        if found is None:
            return self._miss(exchange, "ok")
        head, size = found
        node = self._router.node_of(key)
        early = self._unless(head, node, if_match, if_none_match)
        return early or Reply.of_bytes(self._replies.hit_head(key, head, size, node))

    async def _scan(self, exchange: Exchange, parameters: Parameters) -> Reply:
        if EXPLAIN in parameters:
            raise BadRequest("explain what? write /data/{key}?explain or /data?key={key}&explain")
        check_parameters(parameters, "prefix", "limit", "cursor")
        if "prefix" not in parameters:
            raise BadRequest(
                "write /data/{key}, /data?key={key}, or /data?prefix={prefix} to list keys"
            )
        prefix = parameters["prefix"][0].encode()
        if len(prefix) > MAX_KEY:
            raise BadRequest(f"prefix has more than {MAX_KEY} bytes")
        exchange.access.require_listing(prefix)
        limit = integer_of_text(parameters.get("limit", [str(_PAGE)])[0], "limit", 1, _MOST_PAGE)
        cursor = parameters.get("cursor", [None])[0]
        found, following = await self._router.scan(prefix, limit, cursor, exchange.deadline())
        body = await render_page(found, following)
        return Reply.build(
            200, (("Content-Type", "application/json"), ("Cache-Control", "no-store")), body
        )

    def _miss(self, exchange: Exchange, outcome: str = "miss", more: bytes = b"") -> Reply:
        exchange.outcome = outcome
        return Reply.of_bytes(self._replies.miss(more))

    def _unless(
        self,
        entry: bytes,
        node: bytes,
        if_match: Condition,
        if_none_match: Condition,
        more: bytes = b"",
    ) -> Reply | None:
        """304 or 412 where a condition of a read fails, in the order of RFC 9110 §13.2.2."""
        if if_match is None and if_none_match is None:
            return None
        decoded = header(entry)
        matches, differs = holds(if_match, if_none_match, (decoded.term, decoded.seq))
        if not matches:
            raise condition_failed(self._replies.version(decoded.term, decoded.seq))
        if differs:
            return None
        return Reply.of_bytes(self._replies.not_modified(entry, node, more))

    def _part(
        self, exchange: Exchange, key: bytes, entry: bytes, node: bytes, more: bytes
    ) -> Reply:
        """206 or 416 where one range of a PUT value is asked for; 200 where RFC 9110 §14.2 says to ignore it."""
        lines, content = self._replies.content(key, entry)
        decoded = header(entry)
        wanted = None
        if not decoded.flags & JSON and self._if_range_holds(exchange, decoded.term, decoded.seq):
            wanted = parse_range(exchange.headers("Range"), len(content))
        if wanted is None:
            return Reply.of_bytes(self._replies.hit(key, entry, node, more))
        first, end = wanted
        if first >= end:
            headers = (("Content-Range", f"bytes */{len(content)}"),)
            detail = f"the value has {len(content)} bytes"
            raise Problem(416, "range-not-satisfiable", detail, headers=headers)
        head = (
            b"HTTP/1.1 206 Partial Content\r\n%b%bContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\nDate: %b\r\n"
            % (
                lines,
                self._replies.validators(entry, node) + more,
                first,
                end - 1,
                len(content),
                end - first,
                self._replies.date(),
            )
        )
        return Reply(206, head, memoryview(content)[first:end])

    def _if_range_holds(self, exchange: Exchange, term: int, seq: int) -> bool:
        """Whether `If-Range` is the current tag, or not there. A date never is: an entry has none (RFC 9110 §13.1.5)."""
        asked = exchange.header("If-Range")
        current = b'"%b"' % self._replies.version(term, seq)
        return asked is None or asked.strip().encode(errors="replace") == current

    def _conditions(self, exchange: Exchange) -> tuple[Condition, Condition]:
        match, none_match = exchange.headers("If-Match"), exchange.headers("If-None-Match")
        if not match and not none_match:
            return None, None
        return (
            parse_header("If-Match", match, self._salt, strong=True),
            parse_header("If-None-Match", none_match, self._salt, strong=False),
        )

    @property
    def _salt(self) -> str:
        return self._replies.salt.decode()


def _ttl(parameters: Parameters) -> int:
    return seconds_of_text(parameters["ttl"][0]) if "ttl" in parameters else 0


def _meta(exchange: Exchange, tags: tuple[str, ...], swr_ms: int) -> bytes:
    """The packed meta of a PUT; nothing for the default type. Raises `BadRequest`."""
    content_type = exchange.header("Content-Type") or ""
    meta = Meta(
        content_type="" if content_type == _DEFAULT_TYPE else content_type,
        content_encoding=", ".join(exchange.headers("Content-Encoding")),
        content_disposition=exchange.header("Content-Disposition") or "",
        tags=tags,
        swr_ms=swr_ms,
    )
    try:
        packed = pack_meta(meta)
    except UnicodeEncodeError as error:
        raise BadRequest(
            "Content-Type, Content-Encoding and Content-Disposition must be UTF-8"
        ) from error
    if len(packed) > MAX_META:
        raise BadRequest(
            f"Content-Type, -Encoding and -Disposition may have {MAX_META} bytes together"
        )
    return packed
