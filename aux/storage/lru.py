"""Exact LRU over the evictable partitions of a node.

Each partition's dict is in recency order, oldest first: a move to the end is a pop and an insert. Each
entry has a slot in an array of ticks, so that the oldest entries of two partitions can be compared. A
lazy heap holds, per partition, a lower bound of the tick of its oldest entry: ticks only grow, so an
item that is no longer right is put right when it comes to the top.

It stays exact while the policy is changed only away from it: entries that another policy moved are in the order of
their first writes until they are used.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from itertools import islice
from typing import Final

from aux.storage.partition_data import PartitionData
from aux.storage.policy import Policy, Victim
from ringmaster.protocol.entry import expires_ms_of, unpack_slot

_FRONT_SHARE: Final = 64
_FRONT_MIN: Final = 8
_FRONT_MAX: Final = 4096


class Lru(Policy):
    """Recency of entries, and who goes first. Knows nothing of bytes."""

    __slots__ = (
        "_heap",
        "_listed",
        "_narrow",
        "_narrow_heap",
        "_of",
        "_shift",
    )

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self._shift = max(1, (partitions - 1).bit_length())
        self._heap: list[int] = []  # tick << shift | partition
        self._listed = bytearray(partitions)  # 1: the heap has an item for it
        self._of: dict[int, PartitionData] = {}
        self._narrow: frozenset[int] | None = None
        self._narrow_heap: list[int] = []

    @property
    def name(self) -> str:
        return "lru"

    @property
    def keeps_order(self) -> bool:
        return True

    def touch(self, data: PartitionData, key: bytes) -> bytes | None:
        """The entry of `key`, most recently used from now on; in a replica a plain look-up."""
        entries = data.entries
        if not data.evictable:
            return entries.get(key)
        entry = entries.pop(key, None)
        if entry is None:
            return None
        entries[key] = entry
        self._tick = tick = self._tick + 1
        self.ticks[unpack_slot(entry)[0]] = tick
        return entry

    def touch_many(
        self, datas: Sequence[PartitionData], keys: Sequence[bytes]
    ) -> tuple[list[bytes | None], list[tuple[int, int]]]:
        """`touch` for each pair in its order; also (index, `expires_ms`) of each of them that may expire.

        The `test_many_touches_at_once_…` in `tests/unit/aux/storage/test_lru.py` compare the two.
        """
        found: list[bytes | None] = []
        dated: list[tuple[int, int]] = []
        tick, ticks = self._tick, self.ticks
        for data, key in zip(datas, keys, strict=True):
            entries = data.entries
            if data.evictable:
                entry = entries.pop(key, None)
                if entry is not None:
                    entries[key] = entry
                    tick += 1
                    # `unpack_slot` and `expires_ms_of` byte by byte, with the offsets of `ringmaster/protocol/entry.py` as
                    # numbers: compiled that makes no objects.
                    ticks[entry[0] | entry[1] << 8 | entry[2] << 16 | entry[3] << 24] = tick
                    if entry[14] | entry[15] | entry[16] | entry[17] | entry[18] | entry[19]:
                        dated.append((len(found), expires_ms_of(entry)))
            else:
                entry = entries.get(key)
                if entry is not None and (expires_ms := expires_ms_of(entry)):
                    dated.append((len(found), expires_ms))
            found.append(entry)
        self._tick = tick
        return found, dated

    def enlist(self, data: PartitionData) -> None:
        """`data` is evictable and has entries (call again whenever one of the two becomes true)."""
        self._of[data.number] = data
        self._narrow = None
        if self._listed[data.number]:
            return
        oldest = self._oldest(data)
        if oldest is None:
            return
        self._listed[data.number] = 1
        heappush(self._heap, oldest[2] << self._shift | data.number)

    def forget(self, partition: int) -> None:
        """The partition is gone or no longer evictable; its item leaves the heap when it comes to the top."""
        self._of.pop(partition, None)

    def victim(self, among: Container[int] | None) -> Victim | None:
        """The least recently used entry of all evictable partitions, or of those of them in `among`."""
        if among is None:
            return self._settle(self._heap, self._listed)
        if among is not self._narrow or not isinstance(among, frozenset):
            mask = (1 << self._shift) - 1
            self._narrow_heap = [item for item in self._heap if item & mask in among]
            heapify(self._narrow_heap)
            self._narrow = among if isinstance(among, frozenset) else None
        return self._settle(self._narrow_heap, None)

    def _settle(self, heap: list[int], listed: bytearray | None) -> Victim | None:
        """Puts the top right until it is; leaves the victim where it is, so that asking again is cheap."""
        shift = self._shift
        mask = (1 << shift) - 1
        while heap:
            item = heap[0]
            number = item & mask
            data = self._of.get(number)
            oldest = None if data is None else self._oldest(data)
            if data is None or oldest is None:
                heappop(heap)
                if listed is not None:
                    listed[number] = 0
                continue
            key, entry, tick = oldest
            if item >> shift == tick:
                return data, key, entry
            heapreplace(heap, tick << shift | number)
        return None

    def _oldest(self, data: PartitionData) -> tuple[bytes, bytes, int] | None:
        """Key, entry and tick of the partition's least recently used entry.

        The front of a dict fills with the gaps of moved entries, and `next(iter())` walks over them all
        (2 ms at a million). So the walk takes a batch of keys, and whatever was not used since is still
        older than everything behind the batch.
        """
        entries = data.entries
        ticks = self.ticks
        front = data.front
        limit = data.front_tick
        while True:
            while front:
                key = front[-1]
                entry = entries.get(key)
                if entry is not None:
                    tick = ticks[unpack_slot(entry)[0]]
                    if tick <= limit:
                        return key, entry, tick
                front.pop()
            if not entries:
                return None
            size = min(_FRONT_MAX, max(_FRONT_MIN, len(entries) // _FRONT_SHARE))
            data.front = front = list(islice(entries, size))
            front.reverse()
            data.front_tick = limit = self._tick
