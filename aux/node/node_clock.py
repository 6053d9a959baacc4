"""A node's time: boot time for its lease (R1), and the cluster's time for its entries (R8)."""

from __future__ import annotations

from aux.node.options import Lease, NoLease
from ringmaster.runtime.cluster_clock import ClusterClock


class NodeClock:
    """The process's clock with what this node may conclude from it. `lease` is set once the node has one."""

    def __init__(self, source: ClusterClock) -> None:
        self.lease: Lease = NoLease()
        self._source = source

    def boottime(self) -> float:
        """Seconds since boot, time suspended included."""
        return self._source.boottime()

    def wall(self) -> float:
        """Seconds since 1970 by this host, for people."""
        return self._source.wall()

    def lease_held(self) -> bool:
        """Whether the lease holds by the boot-time clock, read now."""
        return self._source.boottime() < self.lease.held_until

    def now_ms(self) -> int:
        """Cluster time in milliseconds."""
        return self._source.now_ms()

    def wall_ahead_ms(self) -> int:
        """By how much the host's wall clock is ahead of cluster time; negative if it is behind."""
        return self._source.wall_ahead_ms()

    def hear(self, now_ms: int) -> None:
        """Another process's cluster time; ours does not fall behind it from now on."""
        self._source.hear(now_ms)
