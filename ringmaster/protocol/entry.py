"""One cache entry as one `bytes` object: header, optional meta, value.

Layout in `docs/internals.md`. The store keeps it, links carry it, snapshots write it: it is packed
once, when the write is applied, and cut apart where the reply is made.

Whoever cuts an entry apart itself, for speed, takes offsets and structs from here. Offsets are literals, which mypyc
compiles into the modules that import them; `test_the_exported_offsets_are_where_the_fields_are` checks them.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ringmaster.protocol.entry_meta import NO_META, Meta, unpack_meta

META: Final = 1
JSON: Final = 2
RESTORED: Final = 4

# slot, sequence (32 low and 16 high bits), term, expiry (32 low and 16 high bits), time written, flags
_HEADER: Final = struct.Struct("<IIHIIHIB")
# The same of an entry that never expires.
_PLAIN: Final = struct.Struct("<IIHI6xIB")
HEADER_SIZE: Final = 25
SLOT_SIZE: Final = 4
"""The slot comes first."""

EXPIRY_OFFSET: Final = 14
EXPIRY_SIZE: Final = 6
FLAGS_OFFSET: Final = 24
_META_SIZE: Final = struct.Struct("<I")

_SLOT: Final = struct.Struct("<I")
unpack_slot: Final = _SLOT.unpack_from
pack_slot: Final = _SLOT.pack


class Header(NamedTuple):
    """A decoded header. `expires_ms`: cluster time, 0 for never; `written_s`: the same in seconds."""

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


def pack_json(term: int, seq: int, now_ms: int, value: bytes, slot: int = 0) -> bytes:
    """What `pack` makes of a JSON value without meta that never expires, in half the time.

    `test_a_plain_entry_is_what_pack_makes` compares the two.
    """
    return _PLAIN.pack(slot, seq & 0xFFFFFFFF, seq >> 32, term, now_ms // 1000, JSON) + value


def slot_of(entry: bytes) -> int:
    """The slot of `entry`, byte by byte: compiled that makes no objects."""
    return entry[0] | entry[1] << 8 | entry[2] << 16 | entry[3] << 24


def expires_ms_of(entry: bytes) -> int:
    """When `entry` expires, in cluster time (milliseconds); 0 for never. As `slot_of`."""
    low = entry[14] | entry[15] << 8 | entry[16] << 16 | entry[17] << 24
    return low | entry[18] << 32 | entry[19] << 40


def header(entry: bytes) -> Header:
    """The header of `entry` (or of its first `HEADER_SIZE` bytes)."""
    slot, seq_lo, seq_hi, term, exp_lo, exp_hi, written_s, flags = _HEADER.unpack_from(entry)
    return Header(slot, seq_hi << 32 | seq_lo, term, exp_hi << 32 | exp_lo, written_s, flags)


def unnamed_header(entry: bytes) -> tuple[int, int, int, int, int]:
    """(seq, term, expires_ms, written_s, flags): `header` without the names, in half the time.

    `test_an_unnamed_header_is_the_header_without_the_slot` compares the two.
    """
    _, seq_lo, seq_hi, term, exp_lo, exp_hi, written_s, flags = _HEADER.unpack_from(entry)
    return seq_hi << 32 | seq_lo, term, exp_hi << 32 | exp_lo, written_s, flags


def version_of(entry: bytes) -> tuple[int, int]:
    """(term, seq) of `entry`, byte by byte: compiled that makes no objects but the pair."""
    term = entry[10] | entry[11] << 8 | entry[12] << 16 | entry[13] << 24
    low = entry[4] | entry[5] << 8 | entry[6] << 16 | entry[7] << 24
    return term, low | entry[8] << 32 | entry[9] << 40


def value_offset(entry: bytes) -> int:
    """Where the value begins; `entry` may be cut off anywhere behind the meta."""
    if entry[FLAGS_OFFSET] & META:
        return HEADER_SIZE + 4 + int(_META_SIZE.unpack_from(entry, HEADER_SIZE)[0])
    return HEADER_SIZE


def meta_of(entry: bytes) -> Meta:
    """The meta of `entry`; the empty `Meta` where it has none."""
    if entry[FLAGS_OFFSET] & META:
        return unpack_meta(memoryview(entry)[HEADER_SIZE + 4 : value_offset(entry)])
    return NO_META


def is_bare(entry: bytes) -> bool:
    """Whether `entry` is a JSON text behind a header, without meta. Nothing else may follow the header: an empty one is none."""
    return entry[FLAGS_OFFSET] & ~RESTORED == JSON and len(entry) > HEADER_SIZE


def raw_meta(entry: bytes) -> bytes:
    """The packed meta of `entry`, as `pack` takes it."""
    if entry[FLAGS_OFFSET] & META:
        return entry[HEADER_SIZE + 4 : value_offset(entry)]
    return b""
