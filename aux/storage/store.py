"""The entries of one node: an exact LRU with a byte budget, in partitions. Synchronous, no I/O, no clock.

Nothing is stored per entry but the key and the entry (`ringmaster/protocol/entry.py`), one cell of the
partition's dict and one tick of 8 bytes. Not thread-safe; no call yields.

Measured (`bench/memory.py --only speed`, Python 3.11, 2.6 GHz EPYC, entries of 125 bytes): `touch` 0.2 µs,
`put` 0.55 µs over an old entry and 0.8 µs of a new one, `victim` with `remove` 0.9 µs, all with the entry in
the processor's cache; among a million entries at random, cache misses make that 0.8, 2 and 2.9 µs.
"""

from __future__ import annotations

import builtins
from collections.abc import Container, Iterable
from typing import Final

from aux.storage.expiry import due_keys, scan_begins
from aux.storage.memory_accounting import Accounting, ProcessAccounting
from aux.storage.partition_data import LOOK, NEVER, Origin, PartitionData
from aux.storage.policies import make_policy
from aux.storage.policy import LOADED_TICKS
from aux.storage.removals import RemovalLog
from aux.storage.tags import TagIndex
from ringmaster.config.eviction import DEFAULT_POLICY
from ringmaster.protocol.entry import (
    SLOT_SIZE,
    expires_ms_of,
    pack_slot,
    slot_of,
    unpack_slot,
)

_COPIED_AT_ONCE: Final = 4096
_DROP_AT_ONCE: Final = 64
_RECLAIM_STEP: Final = 64
_MOST_PRESSURE: Final = 1024

SORTED_AT_ONCE: Final = 20_000
"""Entries that are sorted in one turn, at most: 10 ms."""


class Store:
    """Partitions of entries within a budget of `max_bytes`.

    The store evicts nothing and expires nothing by itself: `over_bytes`, `victim` and `due` say what
    should go, the caller removes it. `overhead_bytes`: what the process uses besides, taken off the budget.
    """

    def __init__(
        self,
        max_bytes: int,
        partitions: int,
        *,
        overhead_bytes: int = 0,
        accounting: Accounting | None = None,
        policy: str = DEFAULT_POLICY,
        removals: RemovalLog | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self.entries = 0
        self.tagged = 0
        """Open partitions that have records of invalidated tags."""
        self.tag_index = TagIndex()
        self.removals = removals or RemovalLog(max_bytes)
        """What left lately, and why; whoever removes an entry notes it."""

        self.pressure: list[tuple[builtins.bytes, int]] = []
        """Keys, and bytes, of the latest growth of evictable entries above their share: whoever evicts takes it and clears it."""
        self._overhead_bytes = overhead_bytes
        self._accounting = accounting or ProcessAccounting()
        self._cost = self._accounting.entry
        self.partitions = partitions
        self.policy = make_policy(policy, partitions, self._cost)
        """Who goes first. Others only touch; what changes entries goes through the store. Ask for it anew each time."""
        self._open: dict[int, PartitionData] = {}
        self._evictable = 0
        self._primary_bytes = 0
        self._replica_bytes = 0
        self._doomed: list[dict[builtins.bytes, builtins.bytes]] = []
        self._doomed_bytes = 0
        self._primary_share = 0
        self._replica_share = max_bytes
        self._ordered = self.policy.keeps_order

    @property
    def bytes(self) -> int:
        """Bytes that all entries, tables and slots use, those of dropped partitions not yet freed included."""
        return self._primary_bytes + self._replica_bytes + self._doomed_bytes

    @property
    def overhead_bytes(self) -> int:
        """Bytes of the budget that the rest of the process uses."""
        return self._overhead_bytes

    @property
    def primary_share(self) -> int:
        """Bytes that evictable entries and their tables may take."""
        return self._primary_share

    def cost_of(self, key: builtins.bytes, entry: builtins.bytes) -> int:
        """Bytes of the budget that they take, their partition's table left out."""
        return self._cost(len(key), len(entry))

    def resize(self, max_bytes: int) -> None:
        """The budget is `max_bytes` from now on. What is above it then is the caller's to evict."""
        self.max_bytes = max_bytes
        self._share()

    def set_overhead(self, overhead_bytes: int) -> None:
        """Takes `overhead_bytes` off the budget from now on: resident memory less `bytes`, where measured."""
        self._overhead_bytes = max(0, overhead_bytes)
        self._share()

    def open(self, partition: int, *, evictable: bool) -> PartitionData:
        """Opens `partition` empty. ValueError if it is open."""
        if partition in self._open:
            raise ValueError(f"partition {partition} is open")
        data = self._open[partition] = PartitionData(
            partition, evictable=evictable, index=self.tag_index
        )
        data.origin = Origin(self.removals.now_ms)
        self._evictable += evictable
        self._share()
        return data

    def get(self, partition: int) -> PartitionData | None:
        """The data of an open partition."""
        return self._open.get(partition)

    def drop(self, partition: int) -> None:
        """Closes `partition`; its entries are gone at once, a large one's memory a little at a time.

        Does nothing if it is not open. The next puts, removals and sweeps free what is left.
        """
        data = self._open.pop(partition, None)
        if data is None:
            return
        self.policy.forget(partition)
        if data.evictable:
            self._evictable -= 1
            self._primary_bytes -= data.bytes
        else:
            self._replica_bytes -= data.bytes
        self.tagged -= bool(data.tags)
        data.tags = {}
        entries = data.entries
        self.entries -= len(entries)
        self._doomed.append(entries)
        self._doomed_bytes += data.bytes - data.table_bytes
        # Whoever still holds `data` sees an empty partition.
        data.entries = {}
        data.front, data.scan = [], []
        data.bytes = data.table_bytes = 0
        self._share()
        if len(entries) <= _DROP_AT_ONCE:
            self._reclaim(len(entries) or 1)

    def set_evictable(self, partition: int, evictable: bool) -> None:
        """Makes `partition` primary (evictable) or replica, in O(log partitions). KeyError if not open."""
        data = self._open[partition]
        if data.evictable == evictable:
            return
        data.evictable = evictable
        sign = 1 if evictable else -1
        self._evictable += sign
        self._primary_bytes += sign * data.bytes
        self._replica_bytes -= sign * data.bytes
        self._share()
        if evictable:
            self.policy.enlist(data)
        else:
            self.policy.forget(partition)

    def touch(self, data: PartitionData, key: builtins.bytes) -> builtins.bytes | None:
        """The entry of `key`, most recently used from now on; None if absent."""
        return self.policy.touch(data, key)

    def put(self, data: PartitionData, key: builtins.bytes, entry: builtins.bytes) -> None:
        """Stores `entry` under `key`, most recently used. What is stored differs from `entry` in the slot only."""
        entries = data.entries
        old = entries.pop(key, None) if self._ordered else entries.get(key)
        size = len(entry)
        if old is None:
            delta = self._cost(len(key), size)
            slot = self.policy.stamp(data, key, delta)
        else:
            slot = slot_of(old)
            old_size = len(old)
            delta = 0 if size == old_size else self._cost(0, size) - self._cost(0, old_size)
            self.policy.renew(data, key, slot, delta)
        if slot_of(entry) != slot:
            if size < _COPIED_AT_ONCE:
                entry = pack_slot(slot) + entry[SLOT_SIZE:]
            else:
                entry = b"".join((pack_slot(slot), memoryview(entry)[SLOT_SIZE:]))
        entries[key] = entry
        expires_ms = expires_ms_of(entry)
        if expires_ms and expires_ms < data.next_due_ms:
            data.next_due_ms = expires_ms
        if not slot & 15:
            delta += self._table_growth(data)
            self._tell_growth()
        if delta:
            data.bytes += delta
            if data.evictable:
                self._primary_bytes += delta
                if (
                    self._primary_bytes > self._primary_share
                    and len(self.pressure) < _MOST_PRESSURE
                ):
                    self.pressure.append((key, delta))
            else:
                self._replica_bytes += delta
        if old is None:
            self.entries += 1
            if len(entries) == 1 and data.evictable:
                self.policy.enlist(data)
        if self._doomed:
            self._reclaim(_RECLAIM_STEP)

    def load(
        self,
        data: PartitionData,
        items: Iterable[tuple[builtins.bytes, builtins.bytes]],
        first: int,
        total: int,
    ) -> None:
        """Puts entries that come from elsewhere in recency order, oldest first; `items[0]` is number `first` of `total`.

        They are older than all that was used here. Among partitions loaded one after another, equal places in
        their orders count as equally old, so that no partition is evicted before the others.
        """
        policy = self.policy
        now = policy.set_tick(0)
        step = (LOADED_TICKS - 2) // max(1, total)
        tick = first * step
        try:
            for key, entry in items:
                policy.set_tick(tick)
                self.put(data, key, entry)
                tick += step
        finally:
            policy.set_tick(now)

    def set_policy(self, name: str) -> None:
        """Has `name` decide from now on; entries stay. O(entries), 50 ns each. ValueError if there is no such policy.

        What the policy before had learned is lost, except when each entry was used last.
        """
        if name == self.policy.name:
            return
        policy = make_policy(name, self.partitions, self._cost)
        policy.succeed(self.policy)
        self.policy = policy
        self._ordered = policy.keeps_order
        for data in self._open.values():
            data.front, data.front_tick = [], 0
            policy.know(data)
            if data.evictable:
                policy.enlist(data)
        self._tell_growth()

    def set_tag(
        self, data: PartitionData, key: builtins.bytes, record: builtins.bytes | None
    ) -> None:
        """Keeps the record of an invalidated tag under `key`, or drops it (None)."""
        tags = data.tags
        had = bool(tags)
        if record is None:
            tags.pop(key, None)
        else:
            tags[key] = record
            data.next_due_ms = min(data.next_due_ms, LOOK)
        self.tagged += bool(tags) - had

    def last_used(self, data: PartitionData) -> int:
        """A number that grows with every use of an entry of `data` (reads only where it is evictable)."""
        if not data.entries:
            return 0
        ticks = self.policy.ticks
        if self._ordered:
            newest = data.entries[next(reversed(data.entries))]
            tick: int = ticks[unpack_slot(newest)[0]]
            return tick
        latest = 0
        for entry in data.entries.values():
            tick = ticks[unpack_slot(entry)[0]]
            latest = max(latest, tick)
        return latest

    def by_recency(self, data: PartitionData) -> list[builtins.bytes]:
        """The keys of `data`, least recently used first; of more than `SORTED_AT_ONCE` in the order of their first writes.

        O(1) an entry, or 0.5 µs where they must be sorted.
        """
        entries = data.entries
        keys = list(entries)
        if not self._ordered and len(keys) <= SORTED_AT_ONCE:
            ticks = self.policy.ticks
            order = [(ticks[unpack_slot(entries[key])[0]], key) for key in keys]
            order.sort()
            return [key for _, key in order]
        return keys

    def remove(self, data: PartitionData, key: builtins.bytes) -> builtins.bytes | None:
        """Removes `key` and returns its entry, None if absent."""
        entry = data.entries.pop(key, None)
        if entry is None:
            return None
        self.policy.release(key, unpack_slot(entry)[0])
        self._shrink(data, 1, self._cost(len(key), len(entry)))
        return entry

    def remove_many(
        self, data: PartitionData, keys: Iterable[builtins.bytes]
    ) -> list[builtins.bytes]:
        """Removes those of `keys` that are there, and returns them: `remove` of many in half the time.

        `test_many_removals_are_single_removals` compares the two.
        """
        entries, cost = data.entries, self._cost
        removed: list[builtins.bytes] = []
        gone: list[builtins.bytes] = []
        freed = 0
        for key in keys:
            entry = entries.pop(key, None)
            if entry is not None:
                removed.append(key)
                gone.append(entry)
                freed += cost(len(key), len(entry))
        if removed:
            self.policy.release_many(removed, gone)
            self._shrink(data, len(removed), freed)
        return removed

    def victim(
        self, among: Container[int] | None = None
    ) -> tuple[PartitionData, builtins.bytes, builtins.bytes] | None:
        """(data, key, entry) of the evictable partitions that the policy gives up first; it stays until removed or used.

        `among` narrows the choice to some partitions: asked again with the same frozenset it is as cheap
        as without, with anything else it takes time in proportion to the number of partitions.
        """
        return self.policy.victim(among)

    def over_bytes(self) -> int:
        """Evictable bytes above their share of the budget, 0 if within.

        The shares of primaries and replicas are as their numbers of open partitions.
        """
        return max(0, self._primary_bytes - self._primary_share)

    def replica_over_bytes(self) -> int:
        """The bytes of copies that are not evictable above their share, 0 if within."""
        return max(0, self._replica_bytes - self._replica_share)

    def due(self, data: PartitionData, now_ms: int) -> list[builtins.bytes]:
        """Keys past expiry and grace (swr) at cluster time `now_ms`, some at a time: see `due_keys`."""
        if self._doomed:
            self._reclaim(_RECLAIM_STEP)
        if scan_begins(data, now_ms):
            self._resurvey(data)
        return due_keys(data, now_ms)

    def _share(self) -> None:
        """Divides the budget anew between primaries and replicas."""
        budget = max(0, self.max_bytes - self._overhead_bytes - self._doomed_bytes)
        self._primary_share = budget * self._evictable // max(1, len(self._open))
        self._replica_share = budget - self._primary_share
        self.policy.share_bytes = self._primary_share

    def _tell_growth(self) -> None:
        held = self._primary_bytes + self._replica_bytes
        evictable = self.entries * self._primary_bytes // max(1, held)
        self.policy.grown(evictable, self._primary_bytes)

    def _shrink(self, data: PartitionData, count: int, freed: int) -> None:
        """So many entries, which took so many bytes, are gone from `data`."""
        self.entries -= count
        delta = -freed
        if not data.entries:
            data.entries.clear()  # a dict keeps its table when its last key is popped
            data.next_due_ms = LOOK if data.tags else NEVER
            delta += self._table_growth(data)
        data.bytes += delta
        if data.evictable:
            self._primary_bytes += delta
        else:
            self._replica_bytes += delta
        if self._doomed:
            self._reclaim(_RECLAIM_STEP)
        elif not self.entries:
            self.policy.forget_slots()

    def _table_growth(self, data: PartitionData) -> int:
        """By how much the partition's table has grown since this was last asked."""
        table_bytes = self._accounting.table(data.entries)
        growth = table_bytes - data.table_bytes
        data.table_bytes = table_bytes
        return growth

    def _resurvey(self, data: PartitionData) -> None:
        """Counts the table anew: reads make it grow as well."""
        growth = self._table_growth(data)
        data.bytes += growth
        if data.evictable:
            self._primary_bytes += growth
        else:
            self._replica_bytes += growth

    def _reclaim(self, steps: int) -> None:
        """Frees up to `steps` entries of dropped partitions."""
        while self._doomed and steps > 0:
            entries = self._doomed[-1]
            for _ in range(min(steps, len(entries))):
                key, entry = entries.popitem()
                self.policy.release(key, unpack_slot(entry)[0])
                self._doomed_bytes -= self._cost(len(key), len(entry))
                steps -= 1
            if not entries:
                self._doomed.pop()
        self._share()
        if not self._doomed and not self.entries:
            self.policy.forget_slots()
