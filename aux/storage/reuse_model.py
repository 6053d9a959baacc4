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

_GROUPS: Final = 8
_PRIOR: Final = 4.0
"""The weight, in accesses, of what is known of a class from all classes."""

_DECAY: Final = 0.9
_MAX_CORRECTION: Final = 8.0
_LEAST_PERIOD: Final = 4096
_FIRST_PERIOD: Final = 1000
_GROWTH: Final = 0.3
_TINY: Final = 1e-9


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


class ReuseModel:
    """Counts reuses by class and age, and values both. Pure; `learn` takes about 2 ms (20 ms interpreted).

    `values[class * BUCKETS + bucket]`: hits per access waited, of an entry of that class and age.
    """

    __slots__ = ("_began", "_learned_at", "_next", "_reuses", "_seen", "_span", "_widths", "values")

    def __init__(self) -> None:
        self._reuses = [0.0] * (CLASSES * BUCKETS)
        self._seen = [0.0] * CLASSES
        self._widths = [begin_of(n + 1) - begin_of(n) for n in range(BUCKETS)]
        self._began = self._learned_at = 0
        self._next = _FIRST_PERIOD
        self._span = float(_LEAST_PERIOD)
        recency = [1 / (1 + begin_of(n)) for n in range(BUCKETS)]
        self.values: list[float] = recency * CLASSES

    def begin(self, now: int) -> None:
        """What is counted begins at access number `now`."""
        self._began = self._learned_at = now
        self._next = now + _FIRST_PERIOD

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
        correction = self._corrections(now)
        total, totals = 0.0, [0.0] * _GROUPS
        pooled, grouped = [0.0] * BUCKETS, [0.0] * (_GROUPS * BUCKETS)
        for kind in range(CLASSES):
            seen = self._seen[kind]
            if seen <= _TINY:
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
        if total <= _TINY:
            return
        for group in range(_GROUPS):
            weight = totals[group] + _PRIOR
            for n in range(BUCKETS):
                at = group * BUCKETS + n
                grouped[at] = (grouped[at] + _PRIOR * pooled[n] / total) / weight
        unseen = [
            -1
        ] * _GROUPS  # the first such class of each group: all of them are worth the same
        for kind in range(CLASSES):
            group = kind >> 5
            if self._seen[kind] > _TINY or unseen[group] < 0:
                self._value(kind, correction, grouped)
                if self._seen[kind] <= _TINY:
                    unseen[group] = kind
            else:
                like = unseen[group] * BUCKETS
                for n in range(BUCKETS):
                    self.values[kind * BUCKETS + n] = self.values[like + n]
        self._fade(now, entries)

    def _corrections(self, now: int) -> list[float]:
        """What to multiply counts by at each age: an entry used a moment ago cannot have been reused at a great age yet."""
        rate = -math.log(_DECAY) / self._span
        whole = 1 - math.exp(-rate * (now - self._began))
        found = []
        for n in range(BUCKETS):
            seen_for = now - self._began - begin_of(n + 1)
            if seen_for <= 0:
                found.append(_MAX_CORRECTION)
            else:
                share = max(_TINY, 1 - math.exp(-rate * seen_for))
                found.append(min(_MAX_CORRECTION, whole / share))
        return found

    def _value(self, kind: int, correction: list[float], grouped: list[float]) -> None:
        """The Gittins index at each age: neighbouring ages are merged while waiting longer is worth more per access."""
        base, prior = kind * BUCKETS, (kind >> 5) * BUCKETS
        seen = self._seen[kind]
        hits, waits = [0.0] * BUCKETS, [0.0] * BUCKETS
        left = seen + _PRIOR
        for n in range(BUCKETS):
            reuses = self._reuses[base + n] * correction[n] + _PRIOR * grouped[prior + n]
            after = max(_TINY, left - reuses)
            hits[n] = reuses
            waits[n] = self._widths[n] * (left + after) / 2 + 1e-12
            left = after
        values = self.values
        ends: list[int] = []
        for n in range(BUCKETS - 1, -1, -1):
            while ends and hits[ends[-1]] * waits[n] > hits[n] * waits[ends[-1]]:
                end = ends.pop()
                hits[n] += hits[end]
                waits[n] += waits[end]
            ends.append(n)
            values[base + n] = hits[n] / waits[n]

    def _fade(self, now: int, entries: int) -> None:
        kept = math.exp(math.log(_DECAY) / self._span * (now - self._learned_at))
        for kind in range(CLASSES):
            if self._seen[kind] <= 0.0:
                continue
            self._seen[kind] *= kept
            for at in range(kind * BUCKETS, (kind + 1) * BUCKETS):
                self._reuses[at] *= kept
        self._learned_at = now
        self._span = float(max(_LEAST_PERIOD, entries))
        wanted = now + max(_LEAST_PERIOD, entries)
        grown = now + _FIRST_PERIOD + int(_GROWTH * (now - self._began))
        self._next = min(wanted, grown)
