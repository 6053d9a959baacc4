"""The entries of one partition, and what LRU and expiry keep of it. Data only."""

from __future__ import annotations

from typing import Final

NEVER: Final = 1 << 62
"""An expiry in milliseconds that never comes."""


class PartitionData:
    """The entries of one partition, oldest first. Read freely; change only through the `Store`.

    `bytes`: what its entries and their table cost. `evictable`: this node is its primary.
    `next_due_ms`: nothing in it expires before that cluster time.
    """

    __slots__ = (
        "bytes",
        "entries",
        "evictable",
        "front",
        "front_tick",
        "next_due_ms",
        "number",
        "rescan_ms",
        "scan",
        "scan_due_ms",
        "table_bytes",
    )

    def __init__(self, number: int, *, evictable: bool) -> None:
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

    def __repr__(self) -> str:
        role = "primary" if self.evictable else "replica"
        return (
            f"<PartitionData {self.number} {role} entries={len(self.entries)} bytes={self.bytes}>"
        )
