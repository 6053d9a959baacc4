"""A miniature with what it has counted, and what follows from that."""

from __future__ import annotations

from typing import Final

from aux.advice.miniature import HIT, LRU_HIT, Miniature
from aux.advice.tally import Counts, estimate

LEAST_KEYS: Final = 100
"""Keys that a full model must hold to say anything."""

FULL: Final = 0.95
"""A model that uses so much of its memory may have evicted something."""


class Totals:
    """What the node has counted since it started: reads, those among them that missed, and uses of entries. `at`: boot time."""

    __slots__ = ("at", "misses", "reads", "uses")

    def __init__(self, reads: int, misses: int, uses: int, at: float) -> None:
        self.at = at
        self.reads = reads
        self.misses = misses
        self.uses = uses


class Estimate:
    """What a policy would hit with `memory` times as much for entries. `error`: the standard error. `ratio`: hits of all reads.

    `keys`: that the model holds. `filled`: how much of its memory is in use, 0 to 1. `sampled`: reads that it saw.
    """

    __slots__ = ("error", "filled", "keys", "memory", "policy", "ratio", "reads", "sampled")

    def __init__(
        self,
        policy: str,
        memory: float,
        found: tuple[float, float],
        model: Model,
        reads: int,
    ) -> None:
        self.policy = policy
        self.memory = memory
        self.ratio, self.error = found
        self.reads = reads
        self.sampled = model.sampled
        self.keys = model.miniature.entries
        self.filled = model.filled

    @property
    def is_enough(self) -> bool:
        """Whether it holds enough keys to say anything."""
        return self.keys >= LEAST_KEYS or self.filled < FULL


class Model:
    """A miniature and what it has counted: in the window `recent`, and in the one before.

    `has_filled`: it may have evicted something. Before, it lacks only what it has not seen: what the node finds is a hit.
    """

    __slots__ = (
        "_earlier_sampled",
        "_recent_sampled",
        "began",
        "earlier",
        "earlier_began",
        "has_filled",
        "memory",
        "miniature",
        "policy",
        "recent",
        "weight",
    )

    def __init__(self, policy: str, memory: float, miniature: Miniature, began: Totals) -> None:
        self.policy = policy
        self.memory = memory
        self.miniature = miniature
        self.has_filled = False
        self.weight = 1.0
        self.began = self.earlier_began = began
        self.recent = Counts()
        self.earlier = Counts()
        self._recent_sampled = self._earlier_sampled = 0

    @property
    def sampled(self) -> int:
        """Reads of its keys that were counted."""
        return self._recent_sampled + self._earlier_sampled

    @property
    def filled(self) -> float:
        """How much of its memory is in use, 0 to 1."""
        share = self.miniature.share_bytes
        return min(1.0, self.miniature.used_bytes / share) if share else 0.0

    def count(self, group: int, found: int, times: int, *, missed: bool) -> None:
        """A read of a key of the sample, or `times` of which the first may miss."""
        weight, counts = self.weight, self.recent
        if not (missed or self.has_filled):
            found = HIT | LRU_HIT
        self._recent_sampled += times
        counts.reads[group] += weight * times
        if missed:
            counts.node_misses[group] += weight
        if not found & HIT:
            counts.misses[group] += weight
        if not found & LRU_HIT:
            counts.lru_misses[group] += weight

    def turn(self, now: Totals) -> None:
        """A new window begins."""
        self.earlier, self.recent = self.recent, Counts()
        self.earlier_began, self.began = self.began, now
        self._earlier_sampled, self._recent_sampled = self._recent_sampled, 0

    def estimates(self, now: Totals) -> list[Estimate]:
        """What is known so far: of its policy, and of LRU if it models that as well."""
        counts = Counts()
        counts.add(self.earlier)
        counts.add(self.recent)
        reads = now.reads - self.earlier_began.reads
        misses = now.misses - self.earlier_began.misses
        found = [(self.policy, counts.misses)]
        if self.policy == "adaptive":
            found.append(("lru", counts.lru_misses))
        return [
            Estimate(
                policy, self.memory, estimate(each, counts.node_misses, reads, misses), self, reads
            )
            for policy, each in found
        ]
