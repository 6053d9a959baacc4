"""What the coordinator says about masters and requests of operators, read every half second and never per request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec
import structlog

from master.api.summary import MasterRow
from ringmaster.cluster.view import View
from ringmaster.coordinator import Coordinator, Record
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.clock import Clock

_log = structlog.get_logger(__name__)

PERIOD_S = 0.5
GONE_AFTER_S = 3.0
_ETA_WINDOW = 20


class _MasterRecord(msgspec.Struct):
    id: str
    address: str = ""
    pid: int = 0


class _ControllerRecord(msgspec.Struct):
    id: str


_decode_master = msgspec.json.Decoder(_MasterRecord).decode
_decode_controller = msgspec.json.Decoder(_ControllerRecord).decode


class Directory:
    """`masters`: those whose record still changes. `controller`: its id. `eta_s`: when rebalancing will be done."""

    def __init__(self, coordinator: Coordinator, clock: Clock, view: Callable[[], View]) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._view = view
        self._seen: dict[str, tuple[int, float]] = {}
        self._moving: deque[tuple[float, int]] = deque(maxlen=_ETA_WINDOW)
        self.masters: tuple[MasterRow, ...] = ()
        self.controller: str | None = None
        self.available = False

    async def run(self) -> None:
        """Refresh for ever. An outage of the coordinator keeps what is known and clears `available`."""
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
        # With sqlite the leases have a file of their own: "cluster" is in the other, which must answer as well.
        records = await self._coordinator.read_all(("master/", "controller", "cluster"))
        masters = {key: record for key, record in records.items() if key.startswith("master/")}
        controller = records.get("controller")
        self.available = True
        now = self._clock.boottime()
        self.masters = tuple(sorted(self._alive(masters, now), key=lambda row: row.id))
        self.controller = None if controller is None else _controller_id(controller)
        self._sample(now)

    @property
    def eta_s(self) -> float | None:
        """Seconds until nothing moves any more, from the pace of the last ten; None if it cannot be told."""
        if len(self._moving) < 2:
            return None
        (began, before), (now, left) = self._moving[0], self._moving[-1]
        if before <= left or now <= began:
            return None
        return round(left * (now - began) / (before - left), 1)

    def _alive(self, records: dict[str, Record], now: float) -> list[MasterRow]:
        """A master is gone once its record has not changed for a while: nobody's wall clock is compared."""
        rows = []
        for key, record in records.items():
            version, since = self._seen.get(key, (0, now))
            if record.version != version:
                since = now
            self._seen[key] = (record.version, since)
            if now - since <= GONE_AFTER_S:
                try:
                    row = _decode_master(record.value)
                except msgspec.DecodeError:
                    continue
                rows.append(MasterRow(row.id, row.address, row.pid))
        self._seen = {key: seen for key, seen in self._seen.items() if key in records}
        return rows

    def _sample(self, now: float) -> None:
        view = self._view()
        moving = sum(len(row.filling) + (row.awaits is not None) for row in view.table)
        if moving == 0 or (self._moving and moving > self._moving[-1][1]):
            self._moving.clear()
        self._moving.append((now, moving))


def _controller_id(record: Record) -> str | None:
    try:
        return _decode_controller(record.value).id
    except msgspec.DecodeError:
        return None
