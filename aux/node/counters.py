"""What a node counts: hits, misses, writes, and what it removed."""

from __future__ import annotations


class NodeCounters:
    """Plain integers since start; the metrics collector reads them. `copy_hits`: reads that masters answered from copies (R13)."""

    __slots__ = (
        "copy_hits",
        "evictions",
        "expirations",
        "hits",
        "invalidations",
        "misses",
        "writes",
    )

    def __init__(self) -> None:
        self.copy_hits = 0
        self.hits = 0
        self.misses = 0
        self.writes = 0
        self.evictions = 0
        self.expirations = 0
        self.invalidations = 0
