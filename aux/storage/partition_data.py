"""The entries of one partition, and what LRU and expiry keep of it. Data only."""

from __future__ import annotations

from typing import Final

from aux.storage.tags import TagFilter, TagIndex

NEVER: Final = 1 << 61
"""An expiry in milliseconds that never comes. No larger: compiled code has such numbers without an object."""

LOOK: Final = NEVER - 1
"""One that never comes either, but has whoever reads look at the entry."""


class Origin:
    """Where the entries of a partition came from, for `aux/node/explain_report.py`. Cluster time in ms; 0: not known, or never.

    `since_ms`: this node has them since, and has heard of each removal. `is_new`: the partition had never been written before.
    `lost_ms`: every copy was lost, and this is what came back then: what the snapshot of `snapshot_ms` had (0: there was none).
    `is_whole`: that snapshot was the last of a clean stop, or there was nothing to lose.
    """

    __slots__ = ("is_new", "is_whole", "lost_ms", "since_ms", "snapshot_ms")

    def __init__(self, since_ms: int) -> None:
        self.since_ms = since_ms
        self.is_new = False
        self.lost_ms = 0
        self.snapshot_ms = 0
        self.is_whole = False

    def came_back(self, now_ms: int, snapshot_ms: int, *, whole: bool) -> None:
        """After the loss of every copy the entries of a snapshot of `snapshot_ms` were loaded, those of none if that is 0."""
        self.is_new = False
        self.lost_ms = self.lost_ms or now_ms
        self.snapshot_ms = snapshot_ms
        self.is_whole = whole


class PartitionData:
    """The entries of one partition, oldest first. Read freely; change only through the `Store`.

    `bytes`: what its entries and their table cost. `evictable`: this node is its primary.
    `next_due_ms`: nothing in it expires before that cluster time; below `NEVER` as well while there are `tags`.
    `tags`: records of invalidated tags by key, see `ringmaster/protocol/tag_records.py`. `carriers`: the tags that its entries may carry,
    those that are not committed yet included; None for none. `next_carriers`: the same, as a sweep finds it. `index`: knows of the
    bits of `carriers`. `holders`: the masters
    that may have copies of entries by a grant of this node or an earlier primary (R13). `origin`: where its entries came from. `sampled`: some of its keys are (`aux/advice`).
    """

    __slots__ = (
        "bytes",
        "carriers",
        "entries",
        "evictable",
        "front",
        "front_tick",
        "holders",
        "index",
        "next_carriers",
        "next_due_ms",
        "number",
        "origin",
        "rescan_ms",
        "sampled",
        "scan",
        "scan_due_ms",
        "table_bytes",
        "tags",
    )

    def __init__(self, number: int, *, evictable: bool, index: TagIndex | None = None) -> None:
        self.number = number
        self.evictable = evictable
        self.entries: dict[bytes, bytes] = {}
        self.bytes = 0
        self.table_bytes = 0
        self.front: list[bytes] = []
        self.front_tick = 0
        self.next_due_ms = NEVER
        self.scan: list[bytes] = []
        self.scan_due_ms = NEVER
        self.rescan_ms = 0
        self.tags: dict[bytes, bytes] = {}
        self.holders: frozenset[str] = frozenset()
        self.index = TagIndex() if index is None else index
        self.carriers: TagFilter | None = None
        self.next_carriers: TagFilter | None = None
        self.sampled = False
        self.origin = Origin(0)

    def carry(self, tags: tuple[str, ...]) -> None:
        """An entry with these tags is on its way into it, or there."""
        if tags:
            if self.carriers is None:
                self.carriers = TagFilter()
            for bit in self.carriers.add(tags):
                self.index.add(bit, self.number)
            if self.next_carriers is not None:
                self.next_carriers.add(tags)

    def __repr__(self) -> str:
        role = "primary" if self.evictable else "replica"
        return (
            f"<PartitionData {self.number} {role} entries={len(self.entries)} bytes={self.bytes}>"
        )
