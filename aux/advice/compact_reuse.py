"""What keeping an entry is worth, for models of the adaptive policy: of the node's own knowledge, or learned in little memory."""

from __future__ import annotations

import math
from array import array
from typing import Final

from aux.storage.reuse_model import (
    BUCKETS,
    CLASSES,
    DECAY,
    FIRST_PERIOD,
    GROWTH,
    LEAST_PERIOD,
    PRIOR,
    TINY,
    ReuseModel,
    begin_of,
    bucket_of,
    class_values,
    corrections,
)

_GROUPS: Final = 8


class ReuseValues:
    """What is known of reuse times."""

    __slots__ = ()

    def value(self, kind: int, age: int) -> float:
        """Hits per access waited, of an entry of that class that was used `age` accesses ago."""
        raise NotImplementedError

    def used(self, kind: int) -> None:
        """An entry was used, and is of class `kind` now."""

    def reused(self, kind: int, age: int) -> None:
        """An entry of class `kind` was used again after `age` accesses."""

    def is_due(self, now: int) -> bool:
        """Whether to `learn`."""
        return False

    def learn(self, now: int, entries: int) -> None:
        """Value anew what a cache of `entries` keeps."""


class NodeReuse(ReuseValues):
    """What the node's own policy has learned: reuse times do not depend on the size of the cache."""

    __slots__ = ("_model",)

    def __init__(self, model: ReuseModel) -> None:
        self._model = model

    def value(self, kind: int, age: int) -> float:
        return self._model.values[kind * BUCKETS + bucket_of(age)]


class CompactReuse(ReuseValues):
    """Learns as `ReuseModel` does, with rows for those classes only that there are, of single precision: about 100 KiB."""

    __slots__ = (
        "_began",
        "_learned_at",
        "_next",
        "_reuses",
        "_seen",
        "_span",
        "_unseen",
        "_values",
    )

    def __init__(self, now: int) -> None:
        self._began = self._learned_at = now
        self._next = now + FIRST_PERIOD
        self._span = float(LEAST_PERIOD)
        self._seen = array("f", bytes(4 * CLASSES))
        self._reuses: list[array[float] | None] = [None] * CLASSES
        self._values: list[array[float] | None] = [None] * CLASSES
        recency = array("f", [1 / (1 + begin_of(n)) for n in range(BUCKETS)])
        self._unseen = [recency] * _GROUPS

    def value(self, kind: int, age: int) -> float:
        row = self._values[kind]
        if row is None:
            row = self._unseen[kind >> 5]
        return row[bucket_of(age)]

    def used(self, kind: int) -> None:
        self._seen[kind] += 1.0

    def reused(self, kind: int, age: int) -> None:
        row = self._reuses[kind]
        if row is None:
            row = self._reuses[kind] = array("f", bytes(4 * BUCKETS))
        row[bucket_of(age)] += 1.0

    def is_due(self, now: int) -> bool:
        return now >= self._next

    def learn(self, now: int, entries: int) -> None:
        correction = corrections(max(1, now - self._began), self._span)
        grouped = self._group(correction)
        if grouped is None:
            return
        for group in range(_GROUPS):
            unknown = class_values([0.0] * BUCKETS, 0.0, grouped[group], correction)
            self._unseen[group] = array("f", unknown)
        for kind in range(CLASSES):
            seen = self._seen[kind]
            if seen <= TINY:
                self._values[kind] = None
                continue
            row = self._reuses[kind]
            counted = [0.0] * BUCKETS if row is None else list(row)
            values = class_values(counted, seen, grouped[kind >> 5], correction)
            self._values[kind] = array("f", values)
        self._fade(now, entries)

    def _group(self, correction: list[float]) -> list[list[float]] | None:
        """Reuses of one use by age, of all classes of a group and a little of all there are; None before any use."""
        total, totals = 0.0, [0.0] * _GROUPS
        pooled = [0.0] * BUCKETS
        grouped = [[0.0] * BUCKETS for _ in range(_GROUPS)]
        for kind in range(CLASSES):
            seen = self._seen[kind]
            total += seen
            totals[kind >> 5] += seen
            row = self._reuses[kind]
            if row is None:
                continue
            of_group = grouped[kind >> 5]
            for n in range(BUCKETS):
                reuses = row[n] * correction[n]
                pooled[n] += reuses
                of_group[n] += reuses
        if total <= TINY:
            return None
        for group in range(_GROUPS):
            weight = totals[group] + PRIOR
            of_group = grouped[group]
            for n in range(BUCKETS):
                of_group[n] = (of_group[n] + PRIOR * pooled[n] / total) / weight
        return grouped

    def _fade(self, now: int, entries: int) -> None:
        kept = math.exp(math.log(DECAY) / self._span * (now - self._learned_at))
        for kind in range(CLASSES):
            self._seen[kind] *= kept
            row = self._reuses[kind]
            if row is not None:
                for n in range(BUCKETS):
                    row[n] *= kept
        self._learned_at = now
        self._span = float(max(LEAST_PERIOD, entries))
        grown = now + FIRST_PERIOD + int(GROWTH * (now - self._began))
        self._next = min(now + max(LEAST_PERIOD, entries), grown)
