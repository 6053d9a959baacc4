"""What the master counts: plain integers, no locks. A collector reads them when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

BOUNDS_S: Final[tuple[float, ...]] = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds of the latency buckets, inclusive; one more bucket takes the rest."""

_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
OTHER: Final = "other"
SHED: Final = "shed"
"""The outcome of what was refused because of overload."""


class Series:
    """Requests of one kind: `buckets[i]` took at most `BOUNDS_S[i]` seconds (not cumulative)."""

    __slots__ = ("_bucket", "_seconds", "buckets", "method", "outcome", "status_class", "sum_s")

    def __init__(self, method: str, outcome: str, status_class: str) -> None:
        self.method = method
        self.outcome = outcome
        self.status_class = status_class
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        # Of the last request: those that begin in one turn and end in one turn take equally long.
        self._seconds = 0.0
        self._bucket = 0

    def observe(self, seconds: float) -> None:
        """Count one request that took `seconds`."""
        if seconds != self._seconds:
            self._seconds = seconds
            self._bucket = bisect_left(BOUNDS_S, seconds)
        self.buckets[self._bucket] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self.buckets)


class Counters:
    """Requests by method, outcome (`hit`, `miss`, `ok`, `error`, `shed`) and status class (`2xx`, …), with latencies.

    `bulk_hits`, `bulk_misses`: values that bulk reads asked for.
    """

    __slots__ = ("_series", "bulk_hits", "bulk_misses")

    def __init__(self) -> None:
        self.bulk_hits = 0
        self.bulk_misses = 0
        self._series: dict[tuple[str, str, str], Series] = {}

    def series(self, method: str, outcome: str, status: int) -> Series:
        """The one series of this kind; keep it where it is used often. Unknown methods count as `other`."""
        key = (method if method in _METHODS else OTHER, outcome, f"{status // 100}xx")
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(*key)
        return series

    def observe(self, method: str, status: int, outcome: str, seconds: float) -> None:
        """Count one request."""
        self.series(method, outcome, status).observe(seconds)

    def __iter__(self) -> Iterator[Series]:
        return iter(list(self._series.values()))

    @property
    def answered(self) -> int:
        """Requests that were not refused because of overload."""
        return sum(series.count for series in self if series.outcome != SHED)

    @property
    def hits(self) -> int:
        """Values read that were there."""
        return self.bulk_hits + sum(series.count for series in self if series.outcome == "hit")

    @property
    def misses(self) -> int:
        """Values read that were not."""
        return self.bulk_misses + sum(series.count for series in self if series.outcome == "miss")
