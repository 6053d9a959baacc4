"""What the coordinator says about masters and the controller, read every half second and never per request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from master.api.time_left import TimeLeft, work_left
from ringmaster.cluster.master_watch import MasterWatch
from ringmaster.cluster.registration import (
    CONTROLLER_KEY,
    MASTER_PREFIX,
    MasterRow,
    decode_controller,
)
from ringmaster.cluster.view import View
from ringmaster.coordinator import Coordinator
from ringmaster.coordinator.cluster_record import CLUSTER_KEY
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.clock import Clock

PERIOD_S: Final = 0.5
GONE_AFTER_S: Final = 3.0
"""A master is gone once its row has not changed for this long."""

_log = structlog.get_logger(__name__)


class ClusterWatch:
    """`masters`: the rows of live masters by id, in order. `controller`: its id. `available`: whether the last read succeeded."""

    def __init__(self, coordinator: Coordinator, clock: Clock, view: Callable[[], View]) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._view = view
        self._watch = MasterWatch(GONE_AFTER_S)
        self._time_left = TimeLeft()
        # Of the view that was there last: counting takes a few milliseconds.
        self._counted: View | None = None
        self._work_left = 0
        self.masters: tuple[MasterRow, ...] = ()
        self.controller: str | None = None
        self.available = False

    async def run(self) -> None:
        """Refresh until cancelled. An outage of the coordinator keeps what is known and clears `available`."""
        while True:
            try:
                await self.refresh()
            except CoordinatorUnavailable as error:
                if self.available:
                    _log.warning("the coordinator is unavailable", reason=str(error))
                self.available = False
            await asyncio.sleep(PERIOD_S)

    async def refresh(self) -> None:
        """Read once. Raises `CoordinatorUnavailable`."""
        # With sqlite the leases have a file of their own: the record of the cluster is in the other, which must answer as
        # well.
        keys = (MASTER_PREFIX, CONTROLLER_KEY, CLUSTER_KEY)
        try:
            records = await self._coordinator.read_all(keys)
        except CoordinatorUnavailable:
            self._watch.failed()
            raise
        self.available = True
        now = self._clock.boottime()
        masters = self._watch.observe(now, records)
        self.masters = tuple(row for _, row in sorted(masters.items()))
        controller = decode_controller(records.get(CONTROLLER_KEY))
        self.controller = None if controller is None else controller.id
        view = self._view()
        if view is not self._counted:
            self._counted, self._work_left = view, work_left(view)
        self._time_left.observe(now, self._work_left)

    @property
    def eta_s(self) -> float | None:
        """Seconds until copies are where they belong, at the pace of the last ten; None if that is not known."""
        seconds = self._time_left.seconds(self._clock.boottime())
        return None if seconds is None else round(seconds, 1)
