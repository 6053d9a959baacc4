"""Cluster time: the boot-time clock plus an offset on which a cluster's processes agree.

When an entry was written and when it expires are in cluster time everywhere, so no step of a wall clock makes an entry
live longer or shorter (R8). `ringmaster/cluster/time_agreement.py` finds the offset when a process starts.
"""

from __future__ import annotations

from typing import Final

import structlog

from ringmaster.runtime.clock import Clock

_NOTED_MS: Final = 1000

_log = structlog.get_logger(__name__)


class ClusterClock:
    """`source`, and cluster time in milliseconds, about those since 1970 UTC. It goes at the rate of boottime.

    Until `agree` is called it begins with the wall clock of `source`. It goes back only there.
    """

    __slots__ = ("_boottime", "_offset_ms", "_source")

    def __init__(self, source: Clock) -> None:
        self._source = source
        self._boottime = source.boottime
        self._offset_ms = int(source.wall() * 1000.0) - int(source.boottime() * 1000.0)

    def boottime(self) -> float:
        """See `Clock`."""
        return self._boottime()

    def wall(self) -> float:
        """See `Clock`. For people: nothing may depend on it."""
        return self._source.wall()

    @property
    def offset_ms(self) -> int:
        """Cluster time less boottime."""
        return self._offset_ms

    def now_ms(self) -> int:
        """Cluster time now."""
        return int(self._boottime() * 1000.0) + self._offset_ms

    def ms_at(self, boottime: float) -> int:
        """Cluster time when `boottime()` was `boottime`."""
        return int(boottime * 1000.0) + self._offset_ms

    def wall_ahead_ms(self) -> int:
        """By how much this host's wall clock is ahead of cluster time; negative if it is behind."""
        return int(self._source.wall() * 1000.0) - self.now_ms()

    def hear(self, now_ms: int) -> None:
        """Another process's cluster time, some time ago: ours does not fall behind it from now on.

        So boot-time clocks that do not go equally fast stay together, and time never seems to go back when one process
        takes over from another.
        """
        ahead_ms = now_ms - self.now_ms()
        if ahead_ms > 0:
            if ahead_ms > _NOTED_MS:
                _log.warning("cluster time was behind another process's", behind_ms=ahead_ms)
            self._offset_ms += ahead_ms

    def agree(self, now_ms: int) -> None:
        """Take over the cluster's time, before it was used: it is `now_ms` now."""
        self._offset_ms += now_ms - self.now_ms()
