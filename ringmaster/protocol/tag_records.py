"""Records of invalidated tags, and other control entries, in the FIFO of a partition, in fills and in snapshots (R11).

An entry is dead if one of its tags was invalidated since it was written. An invalidation is a *record* of the tag with a
version, in the order of the partition's writes. Records travel and are kept like entries, under keys that no client can
have: those begin with NUL, which is no legal character of a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ringmaster.protocol.entry import FLAGS_OFFSET, META, meta_of, pack, unnamed_header

CONTROL: Final = b"\0"
"""What keys of control entries begin with."""

_RECORD: Final = b"\0t"
REMOVALS: Final = b"\0r"
"""The key of an entry that removes many keys at once: its value is the packed list of them."""

HOLDERS: Final = b"\0h"
"""The key of an entry that says which masters may have copies (R13): its value is the packed list of their names."""

pack_keys = msgspec.msgpack.Encoder().encode
unpack_keys = msgspec.msgpack.Decoder(list[bytes]).decode
_pack_names = msgspec.msgpack.Encoder(order="deterministic").encode
_unpack_names = msgspec.msgpack.Decoder(frozenset[str]).decode


def pack_names(names: frozenset[str]) -> bytes:
    """The value of `HOLDERS`."""
    packed: bytes = _pack_names(names)
    return packed


def unpack_names(raw: bytes) -> frozenset[str]:
    """The names in a value of `HOLDERS`."""
    names: frozenset[str] = _unpack_names(raw)
    return names


def record_key(tag: str) -> bytes:
    """The key of the record of `tag`."""
    return _RECORD + tag.encode()


def tag_of_record(key: bytes) -> str:
    """The tag of the record with this key."""
    return key[len(_RECORD) :].decode()


def is_record(key: bytes) -> bool:
    """Whether `key` is that of a record."""
    return key.startswith(_RECORD)


def pack_record(term: int, seq: int, now_ms: int) -> bytes:
    """A record with this version, at this cluster time."""
    return pack(
        slot=0,
        term=term,
        seq=seq,
        expires_ms=0,
        written_s=now_ms // 1000,
        flags=0,
        meta=b"",
        value=b"",
    )


def tags_of(entry: bytes) -> tuple[str, ...]:
    """The tags of `entry`; records have none."""
    return meta_of(entry).tags if entry[FLAGS_OFFSET] & META else ()


def is_dead(entry: bytes, records: Mapping[bytes, bytes]) -> bool:
    """Whether a tag of `entry` has a record that is newer than it."""
    return killing_tag(entry, records) is not None


def killing_tag(entry: bytes, records: Mapping[bytes, bytes]) -> str | None:
    """The first tag of `entry` that has a record which is newer than it; None: it is not dead."""
    for tag in tags_of(entry):
        record = records.get(record_key(tag))
        if record is not None:
            seq, term, _, _, _ = unnamed_header(entry)
            newer_seq, newer_term, _, _, _ = unnamed_header(record)
            if (term, seq) < (newer_term, newer_seq):
                return tag
    return None
