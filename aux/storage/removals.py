"""What left this node's partitions lately, and why: 16 bytes a removal, in memory that is bounded. No clock, no I/O.

A removal is the hash of its key, a time, a reason and a reference to a text (who asked for it, which tag, whose write needed the
room). They are kept in buckets by hash, each a small ring that overwrites its oldest: so a removal is found by reading one KiB,
however much is kept. Two keys whose hashes are the same (one pair in 2^64) cannot be told apart.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from xxhash import xxh3_64_digest

from aux.storage.expiry import is_expired
from aux.storage.partition_data import PartitionData
from ringmaster.protocol.entry import FLAGS_OFFSET, META, expires_ms_of, meta_of
from ringmaster.protocol.tag_records import killing_tag

EXPIRED: Final = 1
EVICTED: Final = 2
"""To make room; the text is the prefix of the key whose write needed it."""

EVICTED_FOR_COPY: Final = 3
"""To make room on another node, which the text names."""

DELETED: Final = 4
"""Through a master; the text is the name of the token."""

DELETED_BY_REDIS: Final = 5
INVALIDATED: Final = 6
"""The text is the tag."""

REMOVED: Final = 7
"""By the partition's primary, which told its copies no reason."""

MAX_LABELS: Final = 1024
"""Texts that are remembered; a removal whose text was pushed out by others has none."""

MAX_LABEL: Final = 128
MAX_PREFIX: Final = 32
_SLASH: Final = 47
_COLON: Final = 58
MOST_BYTES: Final = 64 * 1024 * 1024
_SHARE: Final = 100
_SLOTS: Final = 64
_RECORD_BYTES: Final = 16
_NEXT_BYTES: Final = 8
_BUCKET_BYTES: Final = _SLOTS * _RECORD_BYTES

# A removal: hash | time in ms (42 bits, until 2109), reason (4), label (18).
_pack_mark: Final = struct.Struct("<Q").pack
_pack_into: Final = struct.Struct("16s").pack_into
_mark_at: Final = struct.Struct("<Q").unpack_from
_TIME_SHIFT: Final = 22
_REASON_SHIFT: Final = 18
_REASON_MASK: Final = 15
_LABEL_MASK: Final = (1 << 18) - 1
_LATEST_MS: Final = (1 << 42) - 1


class Removal(NamedTuple):
    """`reason`: one of the constants above. `at_ms`: cluster time. `label`: the reason's text, empty if there is none or it is forgotten."""

    reason: int
    at_ms: int
    label: bytes


def prefix_of(key: bytes) -> bytes:
    """What keys that belong together begin with: all up to the first `/` or `:`, itself included, 32 bytes at most."""
    # Compiled this takes a tenth of what a search for both characters takes.
    for at in range(min(len(key), MAX_PREFIX)):
        if key[at] == _SLASH or key[at] == _COLON:
            return key[: at + 1]
    return key[:MAX_PREFIX]


def end_of_life_ms(entry: bytes) -> int:
    """When `entry`, which expires, is served no more, not even stale; cluster time."""
    expires_ms = expires_ms_of(entry)
    return expires_ms + meta_of(entry).swr_ms if entry[FLAGS_OFFSET] & META else expires_ms


class RemovalLog:
    """The removals of one node in a hundredth of `max_bytes`, 64 MiB at most.

    `now_ms`: cluster time as of the last tick of the node, which is exact enough for people; the node keeps it.
    """

    __slots__ = (
        "_buckets",
        "_evicted",
        "_id",
        "_ids",
        "_labels",
        "_next",
        "_ring",
        "now_ms",
        "since_ms",
    )

    def __init__(self, max_bytes: int) -> None:
        most = min(max_bytes // _SHARE, MOST_BYTES) // (_BUCKET_BYTES + _NEXT_BYTES)
        self._buckets = max(1, most)
        self._ring = bytearray(self._buckets * _BUCKET_BYTES)
        # The slot of each bucket that is written next: its oldest.
        self._next = [0] * self._buckets
        # By `id % MAX_LABELS`: (id, text, since when). 0 stands for no text.
        self._labels: list[tuple[int, bytes, int]] = [(0, b"", 0)] * MAX_LABELS
        self._ids: dict[bytes, int] = {b"": 0}
        self._id = 0
        # What `evicted` said since the last tick.
        self._evicted: dict[bytes, bytes] = {}
        self.now_ms = 0
        self.since_ms = 0
        """Cluster time at which it began, 0: not known."""

    @property
    def size(self) -> int:
        """The bytes that the removals take; all of them from the beginning on."""
        return self._buckets * (_BUCKET_BYTES + _NEXT_BYTES)

    def tick(self, now_ms: int) -> None:
        """It is `now_ms` or later, in cluster time."""
        if now_ms > self.now_ms:
            self.now_ms = now_ms
            self._evicted.clear()
            if not self.since_ms:
                self.since_ms = now_ms

    def mark(self, reason: int, label: bytes = b"", at_ms: int = 0) -> bytes:
        """What `note` is given: a reason, its text, and the time (0: now). Good for any number of keys."""
        number = self._ids.get(label)
        if number is None:
            number = self._add_label(label)
        at_ms = min(at_ms or self.now_ms, _LATEST_MS)
        return _pack_mark(at_ms << _TIME_SHIFT | reason << _REASON_SHIFT | number)

    def evicted(self, cause: bytes) -> bytes:
        """What `mark` says of an eviction for a write of a key with the prefix `cause`; empty: for no write."""
        mark = self._evicted.get(cause)
        if mark is None:
            mark = self._evicted[cause] = self.mark(EVICTED, cause)
        return mark

    def note(self, key: bytes, mark: bytes) -> None:
        """`key` was removed. O(1), 0.2 µs."""
        digest = xxh3_64_digest(key)
        bucket = self._bucket_of(digest)
        at = self._next[bucket]
        self._next[bucket] = (at + 1) % _SLOTS
        _pack_into(self._ring, bucket * _BUCKET_BYTES + at * _RECORD_BYTES, digest + mark)

    def note_gone(self, key: bytes, entry: bytes, records: dict[bytes, bytes]) -> None:
        """`key` was removed since its entry was dead: by one of `records` of invalidated tags, else it has expired."""
        tag = killing_tag(entry, records) if records else None
        if tag is None:
            self.note(key, self.mark(EXPIRED, b"", end_of_life_ms(entry)))
        else:
            self.note(key, self.mark(INVALIDATED, tag.encode()))

    def note_told(self, data: PartitionData, key: bytes, entry: bytes) -> None:
        """The primary told its copies that `key` is removed: why is known only if `entry`, which they had of it, was dead."""
        if is_expired(entry, self.now_ms) or (data.tags and killing_tag(entry, data.tags)):
            self.note_gone(key, entry, data.tags)
        else:
            self.note(key, self.mark(REMOVED))

    def find(self, key: bytes) -> list[Removal]:
        """The removals of `key` that are still known, the latest noted first. 15 µs."""
        digest = xxh3_64_digest(key)
        bucket = self._bucket_of(digest)
        start = bucket * _BUCKET_BYTES
        newest = self._next[bucket] - 1
        found: list[Removal] = []
        for back in range(_SLOTS):
            at = start + (newest - back) % _SLOTS * _RECORD_BYTES
            if self._ring[at : at + 8] == digest:
                mark: int = _mark_at(self._ring, at + 8)[0]
                if mark:
                    found.append(self._unpacked(mark))
        return found

    def remembers_ms(self, key: bytes) -> int:
        """Since when no removal of `key` can have been forgotten."""
        bucket = self._bucket_of(xxh3_64_digest(key))
        oldest = bucket * _BUCKET_BYTES + self._next[bucket] * _RECORD_BYTES
        mark: int = _mark_at(self._ring, oldest + 8)[0]
        return mark >> _TIME_SHIFT or self.since_ms

    def _bucket_of(self, digest: bytes) -> int:
        # By the highest bits: the lowest choose the partition, of which a node has some only.
        return (digest[0] | digest[1] << 8 | digest[2] << 16) % self._buckets

    def _unpacked(self, mark: int) -> Removal:
        number, at_ms = mark & _LABEL_MASK, mark >> _TIME_SHIFT
        reason = mark >> _REASON_SHIFT & _REASON_MASK
        known, label, since_ms = self._labels[number % MAX_LABELS]
        # Numbers come round again: an older removal means another text.
        return Removal(reason, at_ms, label if known == number and since_ms <= at_ms else b"")

    def _add_label(self, label: bytes) -> int:
        """Gives `label` the next number, in place of the oldest text. Long ones are cut."""
        label = label[:MAX_LABEL]
        number = self._ids.get(label)
        if number is not None:
            return number
        self._id = self._id % _LABEL_MASK + 1
        place = self._id % MAX_LABELS
        old = self._labels[place][1]
        if old:
            self._ids.pop(old, None)
        self._labels[place] = (self._id, label, self.now_ms)
        self._ids[label] = self._id
        return self._id
