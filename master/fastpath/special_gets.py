"""Begin a `GET` with a condition or a preference, where that is all that makes it different from a plain one."""

from __future__ import annotations

from typing import Final

from master.fastpath.context import Client
from master.fastpath.header_cache import Head, without_tag
from master.fastpath.requests import ConditionalGet, Get
from master.fastpath.waiting import WaitingGet
from master.http.preferences import is_proxied, without_wait

_NOT_FAST: Final = 0


def begin_special(connection: Client, key: bytes | None, block: bytes, end: int, now: float) -> int:
    """Begin the request with the header lines `block`, which goes to `end`: returns that, or 0, then nothing has begun."""
    if key is None:
        return _NOT_FAST
    conditional = without_tag(block)
    if conditional is not None:
        return _begin_conditional(connection, key, conditional, end, now)
    patient = without_wait(block)
    return _NOT_FAST if patient is None else _begin_waiting(connection, key, patient, end, now)


def _begin_conditional(
    connection: Client, key: bytes, conditional: tuple[bytes, bytes], end: int, now: float
) -> int:
    """`conditional`: what `without_tag` said."""
    block, tag = conditional
    head = _head_of(connection, block)
    if head is None or not head.may_get(key):
        return _NOT_FAST
    return _begin(connection, ConditionalGet(connection, key, now, tag), end)


def _begin_waiting(
    connection: Client, key: bytes, patient: tuple[bytes, int], end: int, now: float
) -> int:
    """`patient`: what `without_wait` said. Whoever waits may be told to write the key, so it must have the right to."""
    block, wait_s = patient
    head = _head_of(connection, block)
    if head is None or not head.may_get(key):
        return _NOT_FAST
    if head.access is not None and not head.access.permits("write", key):
        return _NOT_FAST
    proxied = is_proxied(block)
    return _begin(connection, WaitingGet(connection, key, now, wait_s, proxied=proxied), end)


def _head_of(connection: Client, block: bytes) -> Head | None:
    heads = connection.context.heads
    return heads.known.get(block) or heads.judge(block)


def _begin(connection: Client, get: Get, end: int) -> int:
    connection.waiting.append(get)
    connection.context.router.get_nowait(get.key, get)
    return end
