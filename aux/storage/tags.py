"""Tags: which entries of a partition are dead because one of their tags was invalidated since they were written (R11).

An invalidation is a *record* of the tag with a version, in the order of the partition's writes. Records travel and are
kept like entries, under keys that no client can have: those begin with NUL, which is no legal character of a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from ringmaster.protocol.entry import FLAGS_OFFSET, META, meta_of, pack, unnamed_header

CONTROL: Final = b"\0"
"""What keys of control entries begin with."""

_RECORD: Final = b"\0t"
REMOVALS: Final = b"\0r"
"""The key of an entry that removes many keys at once: its value is the packed list of them."""

MAX_RECORDS: Final = 4096
"""Records of one partition, at most: more invalidations are shed until a sweep has ended."""

_BITS: Final = 1 << 15
_MASK: Final = _BITS - 1

pack_keys = msgspec.msgpack.Encoder().encode
unpack_keys = msgspec.msgpack.Decoder(list[bytes]).decode


def record_key(tag: str) -> bytes:
    """The key of the record of `tag`."""
    return _RECORD + tag.encode()


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
    for tag in tags_of(entry):
        record = records.get(record_key(tag))
        if record is not None:
            seq, term, _, _, _ = unnamed_header(entry)
            newer_seq, newer_term, _, _, _ = unnamed_header(record)
            if (term, seq) < (newer_term, newer_seq):
                return True
    return False


class TagFilter:
    """Which tags entries of a partition may carry: a Bloom filter (Bloom 1970), 4 KiB, of two bits for each tag.

    Says yes of every tag that was added, and of a few others: 3 % of them with 3,000 different tags in it.
    """

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(_BITS >> 3)

    def add(self, tags: Iterable[str]) -> None:
        """Say yes of `tags` from now on."""
        bits = self._bits
        for tag in tags:
            digest = xxh3_64_intdigest(tag.encode())
            for bit in (digest & _MASK, digest >> 15 & _MASK):
                bits[bit >> 3] |= 1 << (bit & 7)

    def has(self, digest: int) -> bool:
        """Whether the tag whose XXH3 (64 bits) is `digest` may have been added."""
        first, second = digest & _MASK, digest >> 15 & _MASK
        bits = self._bits
        return bool(bits[first >> 3] >> (first & 7) & bits[second >> 3] >> (second & 7) & 1)
