"""What a load test counted, second by second. Plain data: workers send it to whoever leads them, and it is kept as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


def rounded_ms(ms: float) -> float:
    """Two significant digits, as Locust rounds, and a tenth of a millisecond below 10: 1,000 requests are a few dozen values."""
    if ms < 10:
        return round(ms, 1)
    return float(round(ms, -max(0, math.floor(math.log10(ms)) - 1)))


def percentile(times: Counter[float], share: float) -> float:
    """The time in milliseconds within which `share` (0 to 1) of the requests ended; 0 if there is none."""
    left = math.ceil(times.total() * share)
    for ms, count in sorted(times.items()):
        left -= count
        if left <= 0:
            return ms
    return 0.0


@dataclass(slots=True)
class Second:
    """What ended within one second. `times`: how many requests took so many milliseconds."""

    requests: int = 0
    failures: int = 0
    hits: int = 0
    misses: int = 0
    times: Counter[float] = field(default_factory=Counter)


class Timeline:
    """Seconds by the wall clock, in seconds since 1970. Workers on other machines must agree on it."""

    def __init__(self) -> None:
        self.seconds: dict[int, Second] = {}

    def request(self, at_s: float, ms: float, *, failed: bool) -> None:
        """Counts a request that ended at `at_s` and took `ms`."""
        second = self._second(at_s)
        second.requests += 1
        second.failures += failed
        second.times[rounded_ms(ms)] += 1

    def looked_up(self, at_s: float, *, hits: int, misses: int) -> None:
        """Counts keys that were asked for; a bulk request counts each of its keys."""
        second = self._second(at_s)
        second.hits += hits
        second.misses += misses

    @property
    def hits(self) -> int:
        """Keys asked for that were there."""
        return sum(second.hits for second in self.seconds.values())

    @property
    def misses(self) -> int:
        """Keys asked for that were not."""
        return sum(second.misses for second in self.seconds.values())

    def hit_ratio(self) -> float | None:
        """Hits among keys asked for; None if none was."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    def times(self) -> Counter[float]:
        """How many requests took so many milliseconds, in all."""
        counted: Counter[float] = Counter()
        for second in self.seconds.values():
            counted.update(second.times)
        return counted

    def rows(self) -> list[list[Any]]:
        """As JSON, in order of time; `add` is the reverse."""
        return [
            [at, each.requests, each.failures, each.hits, each.misses, sorted(each.times.items())]
            for at, each in sorted(self.seconds.items())
        ]

    def take(self) -> list[list[Any]]:
        """`rows` since the last call; begins again with nothing."""
        taken = self.rows()
        self.seconds = {}
        return taken

    def add(self, rows: Iterable[list[Any]]) -> None:
        """Adds what another one counted."""
        for at, requests, failures, hits, misses, times in rows:
            second = self._second(at)
            second.requests += requests
            second.failures += failures
            second.hits += hits
            second.misses += misses
            second.times.update({float(ms): count for ms, count in times})

    def _second(self, at_s: float) -> Second:
        at = int(at_s)
        second = self.seconds.get(at)
        if second is None:
            second = self.seconds[at] = Second()
        return second
