"""Removes the entries that invalidated tags have killed, a slice at a time, and then the records of these tags (R11).

What a sweep removes goes through the FIFO like an eviction. A record may go once a sweep that began after it was
committed has ended: then nothing that it killed is left, here or, later in the order, in any copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aux.advice.advisor import Advisor
from aux.node.counters import NodeCounters
from aux.replication.primary import Primary
from aux.storage.removals import INVALIDATED, RemovalLog
from aux.storage.store import Store
from aux.storage.tags import TagFilter
from ringmaster.protocol.entry import FLAGS_OFFSET, META, raw_meta, version_of
from ringmaster.protocol.entry_meta import unpack_meta
from ringmaster.protocol.tag_records import record_key, tags_of

SLICE: Final = 500
"""Entries looked at in one turn of the loop, of one partition or of several: half a millisecond if all carry tags and are dead."""

PARTITION: Final = 80
RECORD: Final = 30
"""What it takes to begin with a partition, and to drop a record, in entries looked at."""

REST_S: Final = 0.001
"""Between two slices: clients come first."""

LOOK_S: Final = 0.1
"""Between two passes, at least: a pass takes the records of all tags that were invalidated meanwhile."""

REST: Final = 3.0
MOST_REST_S: Final = 1.0
"""The pause after a pass, as a multiple of what the pass took, and at most: where tags are invalidated all the time, many of
them share a pass over large partitions."""


_MOST_METAS: Final = 1000
_NEVER_KILLED: Final = (0, 0)


class _Verdicts:
    """What a packed meta means for the entries that have it: decoded once where many have the same.

    `carriers` is told of the tags of those that live. Bounded: forgets everything when it is full.
    """

    __slots__ = ("_carriers", "_killed", "_killers", "_noted", "_records")

    def __init__(self, records: dict[bytes, bytes], carriers: TagFilter) -> None:
        self._records = {key: version_of(record) for key, record in records.items()}
        self._carriers = carriers
        self._killed: dict[bytes, tuple[int, int]] = {}
        self._killers: dict[bytes, bytes] = {}
        self._noted: set[bytes] = set()

    def is_dead(self, entry: bytes) -> bool:
        """What `ringmaster.protocol.tag_records.is_dead` says of an entry with meta; the tags of one that lives are noted.

        `test_a_sweep_finds_dead_what_readers_find_dead` compares the two.
        """
        meta = raw_meta(entry)
        killed = self._killed.get(meta)
        if killed is None:
            killed = self._look(meta)
        if killed[0] and version_of(entry) < killed:
            return True
        if meta not in self._noted:
            self._noted.add(meta)
            self._carriers.add(unpack_meta(meta).tags)
        return False

    def killer(self, entry: bytes) -> bytes:
        """Of an entry that `is_dead` has just said to be dead: the tag."""
        return self._killers.get(raw_meta(entry), b"")

    def _look(self, meta: bytes) -> tuple[int, int]:
        """The version of the newest record of one of the tags, `_NEVER_KILLED` if there is none."""
        if len(self._killed) >= _MOST_METAS:
            self._killed.clear()
            self._killers.clear()
            self._noted.clear()
        killed = _NEVER_KILLED
        for tag in unpack_meta(meta).tags:
            record = self._records.get(record_key(tag))
            if record is not None and record > killed:
                killed = record
                self._killers[meta] = tag.encode()
        self._killed[meta] = killed
        return killed


class Sweep:
    """One pass over `primary`, for the records that are committed when it begins. No I/O, no clock."""

    def __init__(
        self, primary: Primary, advisor: Advisor | None = None, removals: RemovalLog | None = None
    ) -> None:
        data = primary.data
        self.primary = primary
        self._removals = removals
        self._advisor = advisor
        self._records = dict(data.tags)
        self._keys = list(data.entries)
        self._carriers = data.next_carriers = TagFilter()
        self._verdicts = _Verdicts(self._records, self._carriers)
        for entry in primary.overlay_entries():
            self._carriers.add(tags_of(entry))

    def step(self, most: int) -> int:
        """Look at `most` more entries, at most; how many were removed."""
        entries, verdicts = self.primary.data.entries, self._verdicts
        keys = self._keys[-most:]
        del self._keys[-most:]
        dead: list[bytes] = []
        removals = self._removals
        for key in keys:
            entry = entries.get(key)
            if entry is not None and entry[FLAGS_OFFSET] & META and verdicts.is_dead(entry):
                dead.append(key)
                if removals is not None:
                    removals.note(key, removals.mark(INVALIDATED, verdicts.killer(entry)))
        if self._advisor is not None and self.primary.data.sampled:
            for key in dead:
                self._advisor.removed(self.primary.data, key)
        return self.primary.remove_dead(dead) if dead else 0

    @property
    def size(self) -> int:
        """Entries that are still to be looked at."""
        return len(self._keys)

    @property
    def is_over(self) -> bool:
        """Whether every entry was looked at."""
        return not self._keys

    def end(self) -> int:
        """All were looked at: drop the records, but for those that were renewed meanwhile; how many there were."""
        primary, data = self.primary, self.primary.data
        data.carriers, data.next_carriers = self._carriers, None
        for key, record in self._records.items():
            if primary.tags.get(key) == record:
                primary.submit_record(key, None)
        return len(self._records)


class TagSweeper:
    """Sweeps `primaries` that have records, one after another, while they serve."""

    def __init__(
        self,
        store: Store,
        primaries: Mapping[int, Primary],
        counters: NodeCounters,
        advisor: Advisor,
    ) -> None:
        self._store = store
        self._primaries = primaries
        self._counters = counters
        self._advisor = advisor

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if self._store.tagged:
                left = SLICE
                for primary in list(self._primaries.values()):
                    # `tags` is empty once the removal of all records is on its way.
                    if primary.data.tags and primary.tags and self._is_served(primary):
                        left = await self._sweep(primary, left)
            took_s = loop.time() - began
            await asyncio.sleep(min(MOST_REST_S, max(LOOK_S, REST * took_s)))

    async def _sweep(self, primary: Primary, left: int) -> int:
        """Sweep `primary`; of a slice `left` may be used before the next rest. Returns what is left of the last one."""
        sweep = Sweep(primary, self._advisor, self._store.removals)
        while not sweep.is_over:
            if left <= 0:
                await asyncio.sleep(REST_S)
                left = SLICE
                if not self._is_served(primary):
                    return left
            most, left = left, left - sweep.size
            self._counters.invalidations += sweep.step(most)
        return left - PARTITION - RECORD * sweep.end()

    def _is_served(self, primary: Primary) -> bool:
        return primary.serving and self._primaries.get(primary.number) is primary
