"""One cache entry as one `bytes` object: header, optional meta, value.

Layout in `docs/internals.md`. The store keeps it, links carry it, snapshots write it: it is packed
once, when the write is applied, and cut apart where the reply is made.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ringmaster.protocol.entry_meta import NO_META, Meta, unpack_meta

META: Final = 1
JSON: Final = 2
RESTORED: Final = 4

_HEADER: Final = struct.Struct("<IIHIIHIB")
HEADER_SIZE: Final = _HEADER.size
_META_SIZE: Final = struct.Struct("<I")
_SLOT: Final = struct.Struct("<I")
# The 48 bits of the expiry with 16 of the next field above them.
_EXPIRY: Final = struct.Struct("<14xQ")
_EXPIRY_MASK: Final = (1 << 48) - 1


class Header(NamedTuple):
    """A decoded header. `expires_ms` is wall milliseconds, 0 for never; `written_s` wall seconds."""

    slot: int
    seq: int
    term: int
    expires_ms: int
    written_s: int
    flags: int


def pack(
    *,
    slot: int,
    term: int,
    seq: int,
    expires_ms: int,
    written_s: int,
    flags: int,
    meta: bytes,
    value: bytes,
) -> bytes:
    """An entry. `meta` comes from `pack_meta`; the META flag is set or cleared here."""
    if meta:
        head = _HEADER.pack(
            slot,
            seq & 0xFFFFFFFF,
            seq >> 32,
            term,
            expires_ms & 0xFFFFFFFF,
            expires_ms >> 32,
            written_s,
            flags | META,
        )
        return b"".join((head, _META_SIZE.pack(len(meta)), meta, value))
    head = _HEADER.pack(
        slot,
        seq & 0xFFFFFFFF,
        seq >> 32,
        term,
        expires_ms & 0xFFFFFFFF,
        expires_ms >> 32,
        written_s,
        flags & ~META,
    )
    return head + value


def pack_json(term: int, seq: int, wall_ms: int, value: bytes) -> bytes:
    """What `pack` makes of a JSON value without meta that never expires, in half the time."""
    return _HEADER.pack(0, seq & 0xFFFFFFFF, seq >> 32, term, 0, 0, wall_ms // 1000, JSON) + value


def expires_ms_of(entry: bytes) -> int:
    """When `entry` expires, wall milliseconds; 0 for never."""
    expires_ms: int = _EXPIRY.unpack_from(entry)[0]
    return expires_ms & _EXPIRY_MASK


def header(entry: bytes) -> Header:
    """The header of `entry` (or of its first `HEADER_SIZE` bytes)."""
    slot, seq_lo, seq_hi, term, exp_lo, exp_hi, written_s, flags = _HEADER.unpack_from(entry)
    return Header(slot, seq_hi << 32 | seq_lo, term, exp_hi << 32 | exp_lo, written_s, flags)


def unnamed_header(entry: bytes) -> tuple[int, int, int, int, int]:
    """(seq, term, expires_ms, written_s, flags): `header` without the names, in half the time."""
    _, seq_lo, seq_hi, term, exp_lo, exp_hi, written_s, flags = _HEADER.unpack_from(entry)
    return seq_hi << 32 | seq_lo, term, exp_hi << 32 | exp_lo, written_s, flags


def slot_of(entry: bytes) -> int:
    """The store-private slot of `entry`."""
    slot: int = _SLOT.unpack_from(entry)[0]
    return slot


def with_slot(entry: bytes, slot: int) -> bytes:
    """A copy of `entry` with another slot."""
    return _SLOT.pack(slot) + entry[4:]


def value_offset(entry: bytes) -> int:
    """Where the value begins; `entry` may be cut off anywhere behind the meta."""
    if entry[HEADER_SIZE - 1] & META:
        return HEADER_SIZE + 4 + int(_META_SIZE.unpack_from(entry, HEADER_SIZE)[0])
    return HEADER_SIZE


def meta_of(entry: bytes) -> Meta:
    """The meta of `entry`; the empty `Meta` where it has none."""
    if entry[HEADER_SIZE - 1] & META:
        return unpack_meta(memoryview(entry)[HEADER_SIZE + 4 : value_offset(entry)])
    return NO_META


def raw_meta(entry: bytes) -> bytes:
    """The packed meta of `entry`, as `pack` takes it."""
    if entry[HEADER_SIZE - 1] & META:
        return entry[HEADER_SIZE + 4 : value_offset(entry)]
    return b""
