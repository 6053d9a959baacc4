"""What the coordinator says about masters and the controller, read every half second and never per request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

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

_ETA_SAMPLES: Final = 20
"""Those of the last ten seconds."""

_log = structlog.get_logger(__name__)


class ClusterWatch:
    """`masters`: the rows of live masters by id, in order. `controller`: its id. `available`: whether the last read succeeded."""

    def __init__(self, coordinator: Coordinator, clock: Clock, view: Callable[[], View]) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._view = view
        self._watch = MasterWatch(GONE_AFTER_S)
        self._moving: deque[tuple[float, int]] = deque(maxlen=_ETA_SAMPLES)
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
        self._sample(now)

    @property
    def eta_s(self) -> float | None:
        """Seconds until the rebalance is done, at the rate of the last ten; None if that is not known."""
        if len(self._moving) < 2:
            return None
        (began, before), (now, left) = self._moving[0], self._moving[-1]
        if before <= left or now <= began:
            return None
        return round(left * (now - began) / (before - left), 1)

    def _sample(self, now: float) -> None:
        """Note how many copies are moving; a new rebalance begins a new series."""
        view = self._view()
        moving = sum(len(row.filling) + (row.awaits is not None) for row in view.table)
        if moving == 0 or (self._moving and moving > self._moving[-1][1]):
            self._moving.clear()
        self._moving.append((now, moving))
