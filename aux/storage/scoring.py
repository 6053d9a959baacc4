"""Which of the entries that a cache has looked at goes first, by three rules: a number each, the least goes."""

from __future__ import annotations

from typing import Final

from aux.storage.reuse_model import BUCKETS, bucket_of

FREQUENCY: Final = 0
"""GreedyDual-Size-Frequency (Cherkasova 1998): uses per byte, and a clock that rises with every eviction."""

REUSE: Final = 1
"""Expected hits per access and byte, by `ReuseModel`."""

RECENCY: Final = 2
"""LRU."""

RULES: Final = 3

_MARKS: Final = 1024


class InflationClock:
    """The value of what was evicted last, which GreedyDual adds to what is used after: kept by time, not by entry."""

    __slots__ = ("_began", "_marks", "_shift", "value")

    def __init__(self, began: int) -> None:
        self.value = 0.0
        self._began = began
        self._shift = 0
        self._marks = [0.0]

    def raise_to(self, value: float, now: int) -> None:
        """An entry worth `value` was evicted at access `now`."""
        marks = self._marks
        at = (now - self._began) >> self._shift
        while at >= _MARKS:
            self._marks = marks = marks[::2]
            self._shift += 1
            at >>= 1
        while len(marks) <= at:
            marks.append(self.value)
        self.value = max(self.value, value)
        # What is used in the rest of this span gets the newest value.
        marks[at] = self.value

    def at(self, tick: int) -> float:
        """Its value at access `tick`."""
        at = (tick - self._began) >> self._shift
        marks = self._marks
        if at >= len(marks):
            return self.value
        return marks[at] if at > 0 else 0.0


def score(
    rule: int,
    tick: int,
    now: int,
    frequency: int,
    kind: int,
    cost: float,
    values: list[float],
    clock: InflationClock,
) -> float:
    """What an entry is worth: used last at access `tick`, `frequency` times, of class `kind`, for `cost` bytes."""
    if rule == REUSE:
        return values[kind * BUCKETS + bucket_of(now - tick)] / cost
    if rule == FREQUENCY:
        return clock.at(tick) + frequency / cost
    return float(tick)
