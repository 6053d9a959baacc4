"""Begin a plain request of /data: what to send to the primary, and where the request's bytes end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from master import keys
from master.api.data import check_size, item_options
from master.api.items import parse_item, plain_item
from master.api.limits import Limits
from master.heads import Head
from master.inflight import Get, Refused, Write
from ringmaster.commands import PLAIN, WriteOptions, encode_options
from ringmaster.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from master.connection import Connection

MAX_BODY: Final = 64 * 1024
"""Larger bodies are left to aiohttp, which counts them against the budget for bodies."""


def end_of_body(limits: Limits, head: Head | None, method: bytes, body: int) -> int:
    """Where the next request begins, given where this one's body does; -1 in doubt."""
    if head is None:
        return -1
    length = head.length
    if method in {b"GET", b"DELETE"}:
        return body if length < 0 else -1
    most = limits.max_value if method == b"PUT" else limits.max_item
    return body + length if 0 <= length <= min(MAX_BODY, most) else -1


def begin(
    connection: Connection,
    method: bytes,
    key: bytes | None,
    target: bytes | None,
    head: Head,
    body: bytes,
    now: float,
) -> bool:
    """Begin a request for `key`, or for what `target` names. False in doubt, then nothing has begun."""
    ttl_ms = 0
    try:
        if method == b"POST":
            return target == b"/data" and _post(connection, body, now)
        if key is None:
            key, parameters = keys.key_of_target(target or b"")
            ttl = parameters.pop("ttl", None) if method == b"PUT" else None
            if key is None or parameters or (ttl is not None and len(ttl) > 1):
                return False
            ttl_ms = 0 if ttl is None else keys.seconds_of_text(ttl[0])
    except (BadRequest, TooLarge) as error:
        refused = Refused(connection, method, now)
        connection.waiting.append(refused)
        refused.fail(error)
        return True
    path = connection.path
    if method == b"GET":
        get = Get(connection, key, now)
        connection.waiting.append(get)
        path.router.get_nowait(key, get)
    elif method == b"PUT":
        options = head.put_options
        if ttl_ms:
            options = encode_options(WriteOptions(ttl_ms=ttl_ms, flags=0, meta=head.meta))
        args = (body, options)
        _send(connection, Write(connection, key, now, "PUT", b"RM.SET", args, path.replies.put))
    else:
        _send(connection, Write(connection, key, now, "DELETE", b"RM.DEL", (), path.deleted))
    return True


def _post(connection: Connection, body: bytes, now: float) -> bool:
    path = connection.path
    plain = plain_item(body)
    if plain is not None:
        key, value = plain
        check_size(value, path.limits.max_value)
        write = Write(connection, key, now, "POST", b"RM.SET", (value,), path.replies.posted)
        connection.waiting.append(write)
        path.router.write_nowait(b"RM.SET", key, (value,), write)
        return True
    item = parse_item(body)
    if item.if_match is not None or item.if_none_match is not None:
        return False
    key = keys.key_of_text(item.key)
    check_size(item.value, path.limits.max_value)
    args: tuple[bytes, ...] = (item.value,)
    if item.ttl is not None:
        options = item_options(item.ttl, None, None, "")
        if options != PLAIN:
            args = (item.value, encode_options(options))
    _send(connection, Write(connection, key, now, "POST", b"RM.SET", args, path.replies.posted))
    return True


def _send(connection: Connection, write: Write) -> None:
    connection.waiting.append(write)
    connection.path.router.write_nowait(write.command, write.key, write.args, write)
