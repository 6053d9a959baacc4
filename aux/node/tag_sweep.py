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
from aux.storage.store import Store
from aux.storage.tags import TagFilter
from ringmaster.protocol.entry import FLAGS_OFFSET, META
from ringmaster.protocol.tag_records import is_dead, tags_of

SLICE: Final = 500
"""Entries looked at in one turn of the loop, of one partition or of several: half a millisecond if all carry tags and are dead."""

PARTITION: Final = 80
RECORD: Final = 30
"""What it takes to begin with a partition, and to drop a record, in entries looked at."""

REST_S: Final = 0.001
"""Between two slices: clients come first."""

LOOK_S: Final = 0.1
"""Between two passes: a pass takes the records of all tags that were invalidated meanwhile."""


class Sweep:
    """One pass over `primary`, for the records that are committed when it begins. No I/O, no clock."""

    def __init__(self, primary: Primary, advisor: Advisor | None = None) -> None:
        data = primary.data
        self.primary = primary
        self._advisor = advisor
        self._records = dict(data.tags)
        self._keys = list(data.entries)
        self._carriers = data.next_carriers = TagFilter()
        for entry in primary.overlay_entries():
            self._carriers.add(tags_of(entry))

    def step(self, most: int) -> int:
        """Look at `most` more entries, at most; how many were removed."""
        entries, records, carriers = self.primary.data.entries, self._records, self._carriers
        keys = self._keys[-most:]
        del self._keys[-most:]
        dead: list[bytes] = []
        for key in keys:
            entry = entries.get(key)
            if entry is None or not entry[FLAGS_OFFSET] & META:
                continue
            if is_dead(entry, records):
                dead.append(key)
            else:
                carriers.add(tags_of(entry))
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
        while True:
            if self._store.tagged:
                left = SLICE
                for primary in list(self._primaries.values()):
                    # `tags` is empty once the removal of all records is on its way.
                    if primary.data.tags and primary.tags and self._is_served(primary):
                        left = await self._sweep(primary, left)
            await asyncio.sleep(LOOK_S)

    async def _sweep(self, primary: Primary, left: int) -> int:
        """Sweep `primary`; of a slice `left` may be used before the next rest. Returns what is left of the last one."""
        sweep = Sweep(primary, self._advisor)
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
