"""Bounds on what one request, and all of them together, may cost. Enforced before anything is buffered."""

from __future__ import annotations

from dataclasses import dataclass

from ringmaster.errors import Shed


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. nginx's template has the same figures.

    `max_line`: the request line, or one header line, with its CR LF. `max_header`: all header lines together.
    `header_s`, `body_s`: how long headers and body may take to arrive. `drain_bytes`: how much of a body is read
    and thrown away after an early error. `buffered_bytes`: request bodies in memory at one time, all together.
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
    deadline_s: float = 6.0

    @property
    def max_item(self) -> int:
        """A POSTed item: the value, its key with every character escaped, and room for the other fields."""
        return self.max_value + 64 * 2**10


class BodyBudget:
    """Counts the bytes of request bodies that are in memory. Plain arithmetic; never awaits."""

    __slots__ = ("_limit", "used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        """Reserve `size` bytes. Raises `Shed`, then nothing is reserved."""
        if self.used + size > self._limit:
            raise Shed("too many large requests at one time; retry in a moment")
        self.used += size

    def give_back(self, size: int) -> None:
        """Release what `take` reserved."""
        self.used -= size
