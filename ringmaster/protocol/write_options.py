"""What masters and aux servers say to each other beyond plain arguments. See `docs/internals.md`."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

Version = tuple[int, int]
"""(term, seq): unique per partition for ever."""

ANY = "*"


class WriteOptions(msgspec.Struct, array_like=True, frozen=True):
    """Everything a write may carry. Defaults mean a plain JSON write without conditions.

    `if_match`: None = no condition, "*" = must exist, else the versions of which one must be current.
    `if_none_match`: None = no condition, "*" = must not exist, else versions that must not be current.
    `ttl_ms`: 0 = never expires. `flags`, `meta`: as in `entry.py`. `by`: the name of the sender's token, empty where no tokens
    are in use; nodes remember who deleted an entry.
    """

    ttl_ms: int = 0
    flags: int = 2
    meta: bytes = b""
    if_match: str | tuple[Version, ...] | None = None
    if_none_match: str | tuple[Version, ...] | None = None
    fill_token: str = ""
    by: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(WriteOptions).decode
PLAIN = WriteOptions()


def encode_options(options: WriteOptions) -> bytes:
    """`options` for the wire."""
    return _encode(options)


def decode_options(raw: bytes) -> WriteOptions:
    """The inverse. Raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    return _decode(raw)


class Status(IntEnum):
    """First integer of a write reply."""

    REPLACED = 0
    CREATED = 1
    CONDITION_FAILED = 2
    ABSENT = 3
    NOT_INTEGER = 4
    OVERFLOW = 5
    FILL_LOST = 6


class WriteReply(NamedTuple):
    """The reply to a write: the version now current (or, on failure, the one that stood in the way; 0, 0 if none).

    `number` is the new value after an increment.
    """

    status: int
    term: int
    seq: int
    expires_ms: int
    number: int = 0
