"""Begin a plain request of /data: what to send to the primary, and where the request's bytes end."""

from __future__ import annotations

from typing import Final

from master.fastpath.bulk_get import GetMany
from master.fastpath.canary import begin_canary
from master.fastpath.context import Client
from master.fastpath.header_cache import NO_KEYS, Head
from master.fastpath.requests import Get, PlainGet, PlainPost, Refused, Write
from master.fastpath.tagged import begin_invalidation, put_options
from master.http.access import Access
from master.http.bulk_body import FIRST_SLICE, distinct_keys, plain_keys
from master.http.json_bodies import (
    parse_item,
    parse_keys,
)
from master.http.limits import Limits
from master.http.plain_bodies import item_before_more, plain_item, plain_keys_of
from master.http.target import PLAIN_KEY, Parameters, key_of_target, key_of_text
from master.http.write_rules import check_size, item_options
from ringmaster.errors import BadRequest, TooLarge
from ringmaster.protocol.write_options import PLAIN, encode_options

MAX_BODY: Final = 64 * 1024
"""Larger bodies are left to aiohttp, which counts them against the budget for bodies."""

PLAIN_PATH: Final = rb"/data/(" + PLAIN_KEY + rb")"
"""Pattern of a target whose key (its group) needs no decoding, and no escapes in a JSON string."""

NO_PARAMETERS: Final[Parameters] = {}

_GET: Final = b"GET /data/"
_VERSION: Final = b" HTTP/1.1\r\n"
_POST_LINE: Final = b"POST /data HTTP/1.1\r\n"


def end_of_body(limits: Limits, head: Head | None, method: bytes, body: int) -> int:
    """Where the next request begins, given where this one's body does; -1 in doubt."""
    if head is None:
        return -1
    length = head.length
    if method == b"GET":
        return body if length < 0 else -1
    if method == b"DELETE":
        # Many clients say that there is none.
        return body if length <= 0 else -1
    most = limits.max_value if method == b"PUT" else limits.max_item
    return body + length if 0 <= length <= min(MAX_BODY, most) else -1


def begin_plain(connection: Client, data: bytes, now: float) -> bool:
    """Begin the request that `data` is, if it is one `GET` or `POST` of the most usual form and nothing else.

    What `begin` makes of the same request, in half the time: most come this way.
    `test_whole_and_in_pieces_a_request_has_the_same_outcome` compares the two. False: nothing has begun.
    """
    context = connection.context
    if data.startswith(_GET):
        # Nearly always the same as last time from here on.
        tail = connection.tail
        if not tail or not data.endswith(tail):
            tail = _learn_tail(connection, data)
            if not tail:
                return False
        ends = len(data) - len(tail)
        if ends <= len(_GET):
            return False
        key = data[len(_GET) : ends]
        # By a name: CPython calls a slot's value in its fastest way only so.
        matches = connection.matches_plain
        if matches(key) is None:
            return False
        if context.copies.held:
            raw = context.copied(key)
            if raw is not None:
                connection.reply(raw)
                return True
        get = PlainGet(connection, key, now)
        connection.waiting.append(get)
        context.router.get_nowait(key, get)
        return True
    return data.startswith(_POST_LINE) and _begin_post(connection, data, now)


def _begin_post(connection: Client, data: bytes, now: float) -> bool:
    """The part of `begin_plain` for a `POST` of /data."""
    context = connection.context
    body = data.find(b"\r\n\r\n") + 4
    if body < len(_POST_LINE) + 2:
        return False
    head = context.heads.known.get(data[len(_POST_LINE) : body - 2])
    if (
        head is None
        or head.post_length != len(data) - body
        or head.length > MAX_BODY
        or head.length > context.limits.max_item
    ):
        return False
    plain = plain_item(data[body:])
    if plain is None:
        return _post_with_more(connection, data[body:], now)
    if len(plain[1]) > context.limits.max_value:
        return False
    key, value = plain
    post = PlainPost(connection, key, now, value)
    connection.waiting.append(post)
    context.router.set_nowait(key, value, post)
    return True


def _learn_tail(connection: Client, data: bytes) -> bytes:
    """What follows the key in `data`, one `GET`, if its header block is known to be plain; else nothing.

    The connection keeps it, and which keys may be read with it. It names the version first, so what precedes it is a target and nothing else.
    """
    at = data.find(_VERSION, len(_GET))
    if at < 0 or not data.endswith(b"\r\n\r\n"):
        return b""
    head = connection.context.heads.known.get(data[at + len(_VERSION) : -2])
    if head is None or head.gets == NO_KEYS:
        return b""
    tail = connection.tail = data[at:]
    connection.matches_plain = head.matches_plain
    return tail


def begin(
    connection: Client,
    method: bytes,
    key: bytes | None,
    target: bytes | None,
    head: Head,
    body: bytes,
    now: float,
    fill_token: str = "",
) -> bool:
    """Begin a request for `key`, or for what `target` names. False in doubt, then nothing has begun.

    `fill_token`: what a write said in its header; empty for none. What a token of access does not permit is such a doubt: aiohttp says what is missing.
    """
    access = head.access
    parameters = NO_PARAMETERS
    options: bytes | None = b""
    try:
        if method == b"POST":
            if target == b"/data/bulk/get":
                return not fill_token and _read_many(connection, access, body, now)
            return target == b"/data" and _post(connection, access, body, now, fill_token)
        if key is None:
            key, parameters = key_of_target(target or b"")
        if key is None:
            invalidates = method == b"DELETE" and not fill_token and "tag" in parameters
            return invalidates and begin_invalidation(connection, head, parameters, now)
        if method == b"PUT":
            options = put_options(head, parameters, fill_token)
        elif parameters:
            return False
    except (BadRequest, TooLarge) as error:
        refused = Refused(connection, method, now)
        connection.waiting.append(refused)
        refused.fail(error)
        return True
    if options is None:
        return False
    if access is not None and (
        (begun := _restricted(connection, access, method, key, (body, options), now)) is not None
    ):
        return begun
    if method == b"GET":
        get = Get(connection, key, now)
        connection.waiting.append(get)
        connection.context.router.get_nowait(key, get)
    elif method == b"PUT":
        replies = connection.context.replies
        args = (body, options)
        _send(connection, Write(connection, key, now, "PUT", b"RM.SET", args, replies.put))
    else:
        _send(connection, _deletion(connection, head, key, now, fill_token))
    return True


def _restricted(
    connection: Client,
    access: Access,
    method: bytes,
    key: bytes,
    args: tuple[bytes, bytes],
    now: float,
) -> bool | None:
    """What `begin` returns for a sender that may not do everything; None: it may do this, and nothing has begun."""
    if not access.permits("read" if method == b"GET" else "write", key):
        return False
    return begin_canary(connection, method, key, args, now) if access.is_canary else None


def _deletion(connection: Client, head: Head, key: bytes, now: float, fill_token: str) -> Write:
    """Of the entry, or of a token that is given up."""
    deleted = connection.context.deleted
    if fill_token:
        args = (fill_token.encode(),)
        return Write(connection, key, now, "DELETE", b"RM.GIVEUP", args, deleted)
    return Write(connection, key, now, "DELETE", b"RM.DEL", head.delete_args, deleted)


def _post_with_more(connection: Client, body: bytes, now: float) -> bool:
    """Begin a `POST` of a plain key and value with options. What `_post` makes of it, in half the time.

    Of who may write all keys. `test_whole_and_in_pieces_a_request_has_the_same_outcome` compares the two.
    """
    context = connection.context
    found = item_before_more(body)
    if found is None or len(found[1]) > context.limits.max_value:
        return False
    key, value, rest = found
    options = context.options_of(rest)
    if options is None:
        return False
    args = (value, options) if options else (value,)
    _send(connection, Write(connection, key, now, "POST", b"RM.SET", args, context.replies.posted))
    return True


def _post(
    connection: Client, access: Access | None, body: bytes, now: float, fill_token: str
) -> bool:
    context = connection.context
    plain = None if fill_token else plain_item(body)
    if plain is not None:
        key, value = plain
        if access is not None and not access.permits("write", key):
            return False
        check_size(value, context.limits.max_value)
        post = PlainPost(connection, key, now, value)
        connection.waiting.append(post)
        context.router.set_nowait(key, value, post)
        return True
    item = parse_item(body)
    if item.if_match is not None or item.if_none_match is not None:
        return False
    key = key_of_text(item.key)
    if access is not None and not access.permits("write", key):
        return False
    check_size(item.value, context.limits.max_value)
    args: tuple[bytes, ...] = (item.value,)
    options = item_options(item, "", fill_token=fill_token)
    if options != PLAIN:
        args = (item.value, encode_options(options))
    _send(connection, Write(connection, key, now, "POST", b"RM.SET", args, context.replies.posted))
    return True


def _read_many(connection: Client, access: Access | None, body: bytes, now: float) -> bool:
    most = connection.context.limits.max_items
    listed = plain_keys_of(body, most)
    try:
        wanted = plain_keys(parse_keys(body, most)) if listed is None else distinct_keys(listed)
    except (BadRequest, OverflowError):
        return False
    if wanted is None or len(wanted) > FIRST_SLICE:
        return False
    if access is not None and not all(access.permits("read", key) for key in wanted):
        return False
    connection.cost(len(wanted))
    read = GetMany(connection, wanted, now, plain=listed is not None)
    connection.waiting.append(read)
    read.send()
    return True


def _send(connection: Client, write: Write) -> None:
    connection.waiting.append(write)
    connection.context.router.write_nowait(write.command, write.key, write.args, write)
