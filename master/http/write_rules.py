"""What fast path, API and bulk requests alike ask of a write, and which answers of a primary are refusals."""

from __future__ import annotations

import re
from typing import Final

from master.http.conditions import Condition, parse_field
from master.http.json_bodies import Item
from master.http.problem import Problem
from master.http.responses import Replies
from master.http.target import milliseconds
from ringmaster.errors import BadRequest, TooLarge
from ringmaster.protocol.entry_meta import MAX_TAG_BYTES, MAX_TAGS, NO_META, Meta, pack_meta
from ringmaster.protocol.write_options import Status, WriteOptions, WriteReply


def item_options(
    item: Item,
    salt: str,
    headers: tuple[Condition, Condition] = (None, None),
    fill_token: str = "",
) -> WriteOptions:
    """The options of a POSTed `item`; conditions come from its fields or from `headers`, not both.

    Raises `BadRequest`.
    """
    conditions: list[Condition] = []
    for name, field, stated, strong in (
        ("if_match", item.if_match, headers[0], True),
        ("if_none_match", item.if_none_match, headers[1], False),
    ):
        if field is not None and stated is not None:
            raise BadRequest(f"{name} is given as a header and in the body; give it once")
        conditions.append(
            stated if field is None else parse_field(name, field, salt, strong=strong)
        )
    ttl_ms = milliseconds(item.ttl)
    meta = NO_META
    if item.tags is not None or item.swr is not None:
        meta = Meta(tags=check_tags(item.tags), swr_ms=grace(milliseconds(item.swr, "swr"), ttl_ms))
    return WriteOptions(
        ttl_ms=ttl_ms,
        meta=pack_meta(meta),
        if_match=conditions[0],
        if_none_match=conditions[1],
        fill_token=fill_token,
    )


_MOST_NAMED: Final = 4 * MAX_TAGS
"""Tags that are looked at, repeated ones included."""

INVALIDATES: Final = "one request invalidates"

is_fill_token = re.compile(r"[0-9]{1,7}\.[0-9]{1,10}\.[0-9a-f]{1,12}").fullmatch


def check_fill_token(token: str) -> str:
    """Raises `BadRequest` for what no reply ever said."""
    if is_fill_token(token.strip()) is None:
        raise BadRequest(
            "that is no fill token; send the one that Fill-Token named in the reply to a GET with Prefer: wait"
        )
    return token.strip()


def check_tags(tags: object, what: str = "an entry may carry") -> tuple[str, ...]:
    """`tags` of an entry, each once; None: none. Raises `BadRequest`, in words about `what`."""
    if tags is None:
        return ()
    if not isinstance(tags, list):
        raise BadRequest('tags must be a list of texts such as ["news", "user-7"]')
    if len(tags) > _MOST_NAMED:
        raise BadRequest(f"{what} {MAX_TAGS} tags, not {len(tags)}")
    for tag in tags:
        check_tag(tag)
    distinct = tuple(dict.fromkeys(tags))
    if len(distinct) > MAX_TAGS:
        raise BadRequest(f"{what} {MAX_TAGS} tags, not {len(distinct)}")
    return distinct


def check_tag(tag: object) -> None:
    """Raises `BadRequest` unless it is a text of 1 to `MAX_TAG_BYTES` bytes of UTF-8."""
    try:
        if isinstance(tag, str) and 0 < len(tag.encode()) <= MAX_TAG_BYTES:
            return
    except UnicodeEncodeError as error:
        raise BadRequest("a tag holds half a surrogate pair; write whole characters") from error
    raise BadRequest(
        f"a tag is a text of 1 to {MAX_TAG_BYTES} bytes of UTF-8, not {str(tag)[:40]!r}"
    )


def grace(swr_ms: int, ttl_ms: int) -> int:
    """The time an entry is served stale, which goes with a time to live only. Raises `BadRequest`."""
    if swr_ms and not ttl_ms:
        raise BadRequest("swr begins when the ttl is over; give a ttl as well")
    return swr_ms


def check_size(value: bytes, most: int) -> None:
    """Raises `TooLarge` for a value of more than `most` bytes."""
    if len(value) > most:
        raise TooLarge(f"the value has {len(value)} bytes; at most {most} are allowed")


def refusal(reply: WriteReply, replies: Replies) -> Problem | None:
    """The problem that a write's answer is, None for a success (absence is left to the caller)."""
    current = replies.version(reply.term, reply.seq) if reply.term or reply.seq else b""
    if reply.status == Status.FILL_LOST:
        return Problem(
            412, "fill-token-lost",
            "the fill token is not, or no longer, good for this key: it was used, given up or too old, another write or delete"
            " came first, or the partition moved; read the key again",
            headers=_etag(current),
        )  # fmt: skip
    if reply.status == Status.CONDITION_FAILED:
        return condition_failed(current)
    etag = _etag(current)
    if reply.status == Status.NOT_INTEGER:
        return Problem(
            409, "not-an-integer", "the value is not a JSON integer of 64 bits", headers=etag
        )
    if reply.status == Status.OVERFLOW:
        return Problem(409, "overflow", "the sum would not fit into signed 64 bits", headers=etag)
    return None


def condition_failed(current: bytes) -> Problem:
    """412; `current`: the version that is there, empty if there is no entry."""
    detail = (
        "the entry does not meet the condition" if current else "there is no entry with this key"
    )
    return Problem(412, "condition-failed", detail, headers=_etag(current))


def _etag(version: bytes) -> tuple[tuple[str, str], ...]:
    return (("ETag", f'"{version.decode()}"'),) if version else ()
