"""A rate of requests in the notation of people: `500/s,burst=1000`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_UNITS: Final = {"s": "second", "m": "minute", "h": "hour"}
_MOST: Final = 10**9
_form = re.compile(r"([0-9]{1,10}) ?/ ?([smh])(?:, ?burst ?= ?([0-9]{1,10}))?", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` requests in a `unit` (`s`, `m`, `h`), evenly; of what was left unused, up to `burst` at once."""

    count: int
    unit: str
    burst: int

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return self.count / _SECONDS[self.unit]

    @property
    def window_s(self) -> int:
        """Whole seconds in which an empty bucket is full again."""
        return max(1, math.ceil(self.burst / self.per_s))

    @property
    def phrase(self) -> str:
        """For a sentence: `500 requests a second, 1000 at once`."""
        more = "" if self.burst == self.count else f", {self.burst} at once"
        plural = "" if self.count == 1 else "s"
        return f"{self.count} request{plural} a{'n' * (self.unit == 'h')} {_UNITS[self.unit]}{more}"

    def __str__(self) -> str:
        more = "" if self.burst == self.count else f",burst={self.burst}"
        return f"{self.count}/{self.unit}{more}"


def parse_rate(text: str) -> Rate:
    """`COUNT/UNIT[,burst=COUNT]`; without a burst it is the count. Raises `ValueError`."""
    match = _form(text.strip())
    if match is None:
        raise ValueError(
            f"{text[:100]!r} is not a rate; write requests by time, 500/s, 60/m or 1000/h, and as 500/s,burst=1000 how many "
            "may come at once"
        )
    count = int(match[1])
    burst = count if match[3] is None else int(match[3])
    if not (0 < count <= _MOST and 0 < burst <= _MOST):
        raise ValueError(f"{text[:100]!r}: a rate and its burst are from 1 to {_MOST}")
    return Rate(count, match[2], burst)
