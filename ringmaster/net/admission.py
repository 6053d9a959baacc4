"""How many connections are taken: all together, and from one address."""

from __future__ import annotations

import asyncio
import resource
from typing import Final

import structlog

SPARE_FILES: Final = 256
"""Descriptors that a process needs for anything else."""

_log = structlog.get_logger(__name__)


class Admission:
    """Counts connections. `most`: all at one time; `most_each`: from one address; 0: no cap.

    Those that come by a unix socket have no address. They are counted and never refused: they are the machine's own
    nginx, which bounds them itself, and would be shut out by strangers otherwise. `refused`: by which of the two caps.
    """

    __slots__ = ("_by_address", "_most", "_most_each", "refused", "total")

    def __init__(self, most: int = 0, most_each: int = 0) -> None:
        self._most = most
        self._most_each = most_each
        self._by_address: dict[str, int] = {}
        self.total = 0
        self.refused = {"all": 0, "address": 0}

    def change(self, most: int, most_each: int) -> None:
        """Other caps from now on, 0 for none. Nobody who is in is sent away."""
        self._most, self._most_each = most, most_each

    def enter(self, address: str) -> str:
        """Count a connection from `address`, empty for a unix socket. Returns an empty text, or why it is refused."""
        if address:
            count = self._by_address.get(address, 0)
            if self._most and self.total >= self._most:
                self.refused["all"] += 1
                return f"there are {self._most} connections already"
            if self._most_each and count >= self._most_each:
                self.refused["address"] += 1
                return f"there are {self._most_each} connections from this address already"
            self._by_address[address] = count + 1
        self.total += 1
        return ""

    def leave(self, address: str) -> None:
        """A connection that was let in has ended."""
        self.total -= 1
        if address:
            left = self._by_address[address] - 1
            if left:
                self._by_address[address] = left
            else:
                del self._by_address[address]


def address_of(transport: asyncio.BaseTransport) -> str:
    """The client's IP address; empty if it came by a unix socket."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def allowed_connections(wanted: int) -> int:
    """Have the system allow as many open files as `wanted` connections need; returns how many connections it allows.

    `wanted` 0 is for as many as possible, and so is the result then.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    needed = wanted + SPARE_FILES if wanted else hard
    target = needed if unlimited else min(needed, hard)
    if resource.RLIM_INFINITY not in (target, soft) and target > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    if not wanted or unlimited or needed <= hard:
        return wanted
    allowed = max(hard - SPARE_FILES, 1)
    _log.warning(
        "the system allows fewer open files than connections are wanted",
        wanted=wanted,
        allowed=allowed,
    )
    return allowed
