"""Bounds on what one request, and all of them together, may cost. Enforced before anything is buffered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from master.http.shedding import TARGET_S
from ringmaster.errors import Shed

GRACE_S: Final = 1.0
"""For so long a body may be slow without losing its place."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. nginx's template has the same figures.

    `max_line`: the request line, or one header line, with its CR LF. `max_header`: all header lines together.
    `header_s`, `body_s`: how long headers and body may take to arrive. `body_rate`: bytes a second below which a body gives
    up its place in memory, if others need it. `drain_bytes`: how much of a body is read
    and thrown away after an early error. `shed_after_s`: the wait from which on requests are refused, 0: never. `buffered_bytes`: request bodies in memory at one time, all together.
    """

    max_value: int = 8 * 2**20
    max_bulk: int = 32 * 2**20
    max_items: int = 10_000
    max_line: int = 8192
    max_header: int = 32 * 2**10
    max_fields: int = 128
    header_s: float = 10.0
    body_s: float = 60.0
    keepalive_s: float = 75.0
    drain_bytes: int = 2**20
    drain_s: float = 5.0
    linger_bytes: int = 64 * 2**20
    buffered_bytes: int = 256 * 2**20
    body_rate: float = 16 * 2**10
    deadline_s: float = 6.0
    shed_after_s: float = TARGET_S

    @property
    def max_item(self) -> int:
        """A POSTed item: the value, its key with every character escaped, and room for the other fields."""
        return self.max_value + 64 * 2**10


class BodyHold:
    """One body's share of a `BodyBudget`. Times are boottime in seconds.

    `on_evicted` is called, from whoever needs the room, when the body has lost its place: it has nothing then.
    """

    __slots__ = ("arriving", "began", "evicted", "on_evicted", "size")

    def __init__(self, began: float, on_evicted: Callable[[], None]) -> None:
        self.size = 0
        self.began = began
        self.on_evicted = on_evicted
        self.arriving = True
        self.evicted = False

    def rate(self, now: float) -> float:
        """Bytes a second since it began."""
        return self.size / max(now - self.began, 1e-3)


class BodyBudget:
    """Counts the bytes of request bodies that are in memory: those that have arrived, not those announced.

    When it is full, a body that is still arriving, and slower than `least_rate` bytes a second since more than `GRACE_S`,
    gives up its place to one that sends. Plain arithmetic; never awaits.
    """

    __slots__ = ("_holds", "_least_rate", "_limit", "evicted", "used")

    def __init__(self, limit: int, least_rate: float = 0.0) -> None:
        self._limit = limit
        self._least_rate = least_rate
        self._holds: set[BodyHold] = set()
        self.used = 0
        self.evicted = 0

    def take(self, hold: BodyHold, size: int, now: float) -> None:
        """Count `size` bytes more of the body of `hold`. Raises `Shed`, then they are not counted."""
        while self.used + size > self._limit:
            slowest = self._slowest(now, hold)
            if slowest is None:
                raise Shed("too many large requests at one time; retry in a moment")
            self.give_back(slowest)
            slowest.evicted = True
            self.evicted += 1
            slowest.on_evicted()
        self._holds.add(hold)
        hold.size += size
        self.used += size

    def give_back(self, hold: BodyHold) -> None:
        """The body of `hold` is not in memory any more. Idempotent."""
        self._holds.discard(hold)
        self.used -= hold.size
        hold.size = 0

    def _slowest(self, now: float, besides: BodyHold) -> BodyHold | None:
        slow = [
            hold
            for hold in self._holds
            if hold.arriving
            and hold is not besides
            and now - hold.began > GRACE_S
            and hold.rate(now) < self._least_rate
        ]
        return min(slow, key=lambda hold: hold.rate(now), default=None)
