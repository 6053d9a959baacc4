"""What an eviction policy is to the store: slots for entries, their uses, and who goes first."""

from __future__ import annotations

from array import array
from collections.abc import Container, Sequence
from typing import Final

from aux.storage.partition_data import PartitionData
from ringmaster.protocol.entry import expires_ms_of, unpack_slot

_NO_SLOT: Final = (1 << 32) - 1
LOADED_TICKS: Final = 1 << 32
"""Ticks below are for loaded entries: all are older than anything used since the start."""

Victim = tuple[PartitionData, bytes, bytes]
"""Where it is, its key and its entry."""


class Policy:
    """Each entry has a slot in `ticks`: when it was last used. A policy keeps more by slot, or order in `PartitionData.entries`.

    `share_bytes`: what evictable entries may take; the store sets it. Policies read no clock and do no I/O.
    """

    __slots__ = ("_free", "_tick", "share_bytes", "ticks")

    def __init__(self) -> None:
        self.ticks = array("Q")
        """By slot: when the entry was last used; a free slot holds the next free one."""
        self.share_bytes = 0
        self._free = _NO_SLOT
        self._tick = LOADED_TICKS

    @property
    def name(self) -> str:
        """What settings call it."""
        raise NotImplementedError

    @property
    def keeps_order(self) -> bool:
        """Whether `PartitionData.entries` are in recency order, oldest first; else in the order of their first writes."""
        return False

    def touch(self, data: PartitionData, key: bytes) -> bytes | None:
        """The entry of `key`, which is used now; in a replica a plain look-up."""
        raise NotImplementedError

    def touch_many(
        self, datas: Sequence[PartitionData], keys: Sequence[bytes]
    ) -> tuple[list[bytes | None], list[tuple[int, int]]]:
        """`touch` for each pair in its order; also (index, `expires_ms`) of each of them that may expire."""
        found: list[bytes | None] = []
        dated: list[tuple[int, int]] = []
        for data, key in zip(datas, keys, strict=True):
            entry = self.touch(data, key)
            if entry is not None and (expires_ms := expires_ms_of(entry)):
                dated.append((len(found), expires_ms))
            found.append(entry)
        return found, dated

    def set_tick(self, tick: int) -> int:
        """Set the counter, as if it were earlier; what it was. Within one turn, to be set back."""
        now, self._tick = self._tick, tick
        return now

    def stamp(self, data: PartitionData, key: bytes, cost: int) -> int:
        """A slot for a new entry of `data` that costs so many bytes of the budget, used now."""
        return self._take_slot()

    def renew(self, data: PartitionData, key: bytes, slot: int, change: int) -> None:
        """The entry of `slot` was written again and costs so many bytes more: used now."""
        self._tick = tick = self._tick + 1
        self.ticks[slot] = tick

    def release(self, key: bytes, slot: int) -> None:
        """The entry of `slot` is gone."""
        self.ticks[slot] = self._free
        self._free = slot

    def release_many(self, keys: Sequence[bytes], entries: Sequence[bytes]) -> None:
        """`release` for each key and the slot of its entry, in their order."""
        for key, entry in zip(keys, entries, strict=True):
            self.release(key, unpack_slot(entry)[0])

    def forget_slots(self) -> None:
        """No entry is left anywhere: the arrays go."""
        self.ticks = array("Q")
        self._free = _NO_SLOT

    def succeed(self, before: Policy) -> None:
        """Take the slots over from the policy that decided until now; `before` is used no more."""
        self.ticks = before.ticks
        self.share_bytes = before.share_bytes
        self._free = before._free
        self._tick = before._tick

    def know(self, data: PartitionData) -> None:
        """After `succeed`, for each partition: its entries are in slots that were taken over."""

    def enlist(self, data: PartitionData) -> None:
        """`data` is evictable and has entries (call again whenever one of the two becomes true)."""
        raise NotImplementedError

    def forget(self, partition: int) -> None:
        """The partition is gone or no longer evictable."""
        raise NotImplementedError

    def grown(self, entries: int, used_bytes: int) -> None:
        """There are about so many evictable entries now, of `used_bytes`. Called from time to time as they become more."""

    def victim(self, among: Container[int] | None) -> Victim | None:
        """Who goes first of all evictable partitions, or of those of them in `among`; it stays until removed."""
        raise NotImplementedError

    def _take_slot(self) -> int:
        slot = self._free
        self._tick = tick = self._tick + 1
        if slot == _NO_SLOT:
            slot = len(self.ticks)
            self.ticks.append(tick)
            return slot
        self._free = self.ticks[slot]
        self.ticks[slot] = tick
        return slot
