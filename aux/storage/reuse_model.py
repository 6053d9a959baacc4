"""How soon entries are used again, learned from a sample; and what keeping one is worth: hits per access of waiting.

The value of an entry is its Gittins index: the best ratio, over all ages at which one might give it up, of the hits until then
to the time it waits for them (Aalto, Ayesta, Righter, "On the Gittins index in the M/G/1 queue", 2009; for caches, with hit
density in its place: Beckmann, Chen, Cidon, "LHD", NSDI 2018). Entries are told apart by the times of their last two reuses.
Times are counted in accesses of the node.
"""

from __future__ import annotations

import math
from typing import Final

CLASSES: Final = 256
NEW: Final = 0
"""The class of an entry that has not been used again yet."""

MAX_OCTAVE: Final = 31
BUCKETS: Final = 64
"""Ages up to 2**32, two buckets to the octave."""

GROUPS: Final = 8
PRIOR: Final = 4.0
"""The weight, in accesses, of what is known of a class from all classes."""

DECAY: Final = 0.9
"""What is left of a count after as many accesses as there are entries."""

_MAX_CORRECTION: Final = 8.0
LEAST_PERIOD: Final = 4096
FIRST_PERIOD: Final = 1000
GROWTH: Final = 0.3
"""In accesses, how long to learn: first, and then as long as that, up to one for each entry."""

TINY: Final = 1e-9


def reused(before: int, age: int) -> int:
    """The class of an entry of class `before` that is used again after `age` accesses."""
    octave = (age + 1).bit_length() - 1
    octave = min(octave, MAX_OCTAVE)
    if before < 32:
        return 32 | octave
    return (1 + min(6, (before & 31) // 3)) << 5 | octave


def bucket_of(age: int) -> int:
    """The bucket of an age in accesses, 0 <= age."""
    age += 1
    octave = age.bit_length() - 1
    if octave == 0:
        return 0
    if octave > MAX_OCTAVE:
        return BUCKETS - 1
    return octave << 1 | (age >> (octave - 1) & 1)


def begin_of(bucket: int) -> float:
    """The least age in `bucket`."""
    return math.ldexp(1 + (bucket & 1) / 2, bucket >> 1) - 1


_WIDTHS: Final = [begin_of(n + 1) - begin_of(n) for n in range(BUCKETS)]


def corrections(elapsed: int, span: float) -> list[float]:
    """What to multiply counts by at each age, `elapsed` accesses after the first: those used a moment ago cannot have been reused late."""
    rate = -math.log(DECAY) / span
    whole = 1 - math.exp(-rate * elapsed)
    found = []
    for n in range(BUCKETS):
        seen_for = elapsed - begin_of(n + 1)
        if seen_for <= 0:
            found.append(_MAX_CORRECTION)
        else:
            share = max(TINY, 1 - math.exp(-rate * seen_for))
            found.append(min(_MAX_CORRECTION, whole / share))
    return found


def class_values(
    counted: list[float], seen: float, prior: list[float], correction: list[float]
) -> list[float]:
    """The Gittins index of a class at each age: neighbouring ages are merged while waiting longer is worth more per access.

    `counted`: its reuses by age, of `seen` uses. `prior`: the reuses of one use in all classes like it.
    """
    hits, waits = [0.0] * BUCKETS, [0.0] * BUCKETS
    left = seen + PRIOR
    for n in range(BUCKETS):
        reuses = counted[n] * correction[n] + PRIOR * prior[n]
        after = max(TINY, left - reuses)
        hits[n] = reuses
        waits[n] = _WIDTHS[n] * (left + after) / 2 + 1e-12
        left = after
    values = [0.0] * BUCKETS
    ends: list[int] = []
    for n in range(BUCKETS - 1, -1, -1):
        while ends and hits[ends[-1]] * waits[n] > hits[n] * waits[ends[-1]]:
            end = ends.pop()
            hits[n] += hits[end]
            waits[n] += waits[end]
        ends.append(n)
        values[n] = hits[n] / waits[n]
    return values


class ReuseModel:
    """Counts reuses by class and age, and values both. Pure; `learn` takes about 2 ms (20 ms interpreted).

    `values[class * BUCKETS + bucket]`: hits per access waited, of an entry of that class and age.
    """

    __slots__ = ("_began", "_learned_at", "_next", "_reuses", "_seen", "_span", "values")

    def __init__(self) -> None:
        self._reuses = [0.0] * (CLASSES * BUCKETS)
        self._seen = [0.0] * CLASSES
        self._began = self._learned_at = 0
        self._next = FIRST_PERIOD
        self._span = float(LEAST_PERIOD)
        recency = [1 / (1 + begin_of(n)) for n in range(BUCKETS)]
        self.values: list[float] = recency * CLASSES

    def begin(self, now: int) -> None:
        """What is counted begins at access number `now`."""
        self._began = self._learned_at = now
        self._next = now + FIRST_PERIOD

    def used(self, kind: int) -> None:
        """An entry was used, and is of class `kind` now."""
        self._seen[kind] += 1.0

    def reused(self, kind: int, age: int) -> None:
        """An entry of class `kind` was used again after `age` accesses."""
        self._reuses[kind * BUCKETS + bucket_of(age)] += 1.0

    def is_due(self, now: int) -> bool:
        """Whether to `learn`."""
        return now >= self._next

    def learn(self, now: int, entries: int) -> None:
        """Value anew what a cache of `entries` keeps, and let older counts fade: by a tenth in as many accesses as it has entries."""
        correction = corrections(now - self._began, self._span)
        total, totals = 0.0, [0.0] * GROUPS
        pooled, grouped = [0.0] * BUCKETS, [0.0] * (GROUPS * BUCKETS)
        for kind in range(CLASSES):
            seen = self._seen[kind]
            if seen <= TINY:
                continue
            total += seen
            group = kind >> 5
            totals[group] += seen
            for n in range(BUCKETS):
                reuses = self._reuses[kind * BUCKETS + n]
                if reuses:
                    reuses *= correction[n]
                    pooled[n] += reuses
                    grouped[group * BUCKETS + n] += reuses
        if total <= TINY:
            return
        for group in range(GROUPS):
            weight = totals[group] + PRIOR
            for n in range(BUCKETS):
                at = group * BUCKETS + n
                grouped[at] = (grouped[at] + PRIOR * pooled[n] / total) / weight
        unseen = [-1] * GROUPS  # the first such class of each group: all of them are worth the same
        for kind in range(CLASSES):
            group = kind >> 5
            if self._seen[kind] > TINY or unseen[group] < 0:
                base = kind * BUCKETS
                prior = group * BUCKETS
                self.values[base : base + BUCKETS] = class_values(
                    self._reuses[base : base + BUCKETS],
                    self._seen[kind],
                    grouped[prior : prior + BUCKETS],
                    correction,
                )
                if self._seen[kind] <= TINY:
                    unseen[group] = kind
            else:
                like = unseen[group] * BUCKETS
                for n in range(BUCKETS):
                    self.values[kind * BUCKETS + n] = self.values[like + n]
        self._fade(now, entries)

    def _fade(self, now: int, entries: int) -> None:
        kept = math.exp(math.log(DECAY) / self._span * (now - self._learned_at))
        for kind in range(CLASSES):
            if self._seen[kind] <= 0.0:
                continue
            self._seen[kind] *= kept
            for at in range(kind * BUCKETS, (kind + 1) * BUCKETS):
                self._reuses[at] *= kept
        self._learned_at = now
        self._span = float(max(LEAST_PERIOD, entries))
        wanted = now + max(LEAST_PERIOD, entries)
        grown = now + FIRST_PERIOD + int(GROWTH * (now - self._began))
        self._next = min(wanted, grown)
