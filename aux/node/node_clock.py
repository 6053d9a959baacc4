"""A node's time: boot time for its lease, and wall time that never falls behind its primaries' (R1, R8)."""

from __future__ import annotations

from aux.node.options import Lease, NoLease
from ringmaster.runtime.clock import Clock


class NodeClock:
    """The process's `Clock` with what this node may conclude from it. `lease` is set once the node has one."""

    def __init__(self, source: Clock) -> None:
        self.lease: Lease = NoLease()
        self._source = source
        self._wall_floor_ms = 0

    def boottime(self) -> float:
        """Seconds since boot, time suspended included."""
        return self._source.boottime()

    def wall(self) -> float:
        """Wall time in seconds, as the process's clock has it."""
        return self._source.wall()

    def lease_held(self) -> bool:
        """Whether the lease holds by the boot-time clock, read now."""
        return self._source.boottime() < self.lease.held_until

    def wall_ms(self) -> int:
        """Wall time in milliseconds, never behind what a primary has told us (R8)."""
        now = int(self._source.wall() * 1000)
        if now < self._wall_floor_ms:
            return self._wall_floor_ms
        self._wall_floor_ms = now
        return now

    def hear_wall(self, wall_ms: int) -> None:
        """A primary's wall time; ours does not fall behind it from now on."""
        self._wall_floor_ms = max(self._wall_floor_ms, wall_ms)
