"""How a process that starts takes over the cluster's time, and how that outlives all processes.

Rows of live processes carry their cluster time at each renewal. A process that starts waits until it sees one of them
change: it was written a moment ago, so its time is the cluster's. No clock of the newcomer's own plays a part, neither
its wall clock nor where its boot-time clock begins. Only if no row changes, nobody is alive: then the record `time`
leads on, exactly if it was written under this very boot; else the wall clock is read, the only place where that
matters, and time goes on from there, never back behind the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from ringmaster.cluster.lease import LEASE_PREFIX
from ringmaster.cluster.registration import MASTER_PREFIX
from ringmaster.coordinator import Commit, Coordinator, Record
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.runtime.decoding import decode_json

TIME_KEY: Final = "time"

SAME_BOOT_WAIT_S: Final = 1.0
"""How long to wait for a sign of life where the record can be trusted without one: twice the time between renewals."""

OTHER_BOOT_WAIT_S: Final = 10.0
"""The same where the wall clock would be read: five times as long as a lease holds, so that it is not read in vain."""

RECORD_EVERY_MS: Final = 60_000
"""How often the controller records the time: so far back it may fall if every host loses power and its wall clock."""

_CLOSE_MS: Final = 250
"""A row that has just changed is read this soon: the record of the same boot is right if it says about the same."""

_MOVED_MS: Final = 20
_LOOK_S: Final = 0.05
_RETRY_S: Final = 0.5

_log = structlog.get_logger(__name__)


class TimeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`time`: under boot `boot_id` cluster time is boottime plus `offset_ms`. It was `latest_ms` when this was written."""

    boot_id: str
    offset_ms: int
    latest_ms: int


class _LeasedRow(msgspec.Struct, frozen=True):
    now_ms: int = 0


async def join_cluster_time(
    coordinator: Coordinator, clock: ClusterClock, boot_id: str, stop: asyncio.Event
) -> None:
    """Have `clock` show the cluster's time; begin it if there is none. Outages are waited out, until `stop` is set."""
    joining = _Joining(coordinator, clock, boot_id)
    while not stop.is_set():
        pause_s = _LOOK_S
        try:
            if await joining.look():
                return
        except CoordinatorUnavailable as error:
            joining.failed()
            _log.warning("cluster time waits for the coordinator", reason=str(error))
            pause_s = _RETRY_S
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await stop.wait()


async def record_time(
    coordinator: Coordinator, clock: ClusterClock, boot_id: str, record: Record | None
) -> None:
    """The controller's part: keep `record`, that of `TIME_KEY`, right and fresh. Raises `CoordinatorUnavailable`."""
    known = _decode(record)
    now_ms = clock.now_ms()
    if (
        known is not None
        and known.boot_id == boot_id
        and abs(known.offset_ms - clock.offset_ms) <= _MOVED_MS
        and now_ms - known.latest_ms < RECORD_EVERY_MS
    ):
        return
    await _write(coordinator, clock, boot_id, record, now_ms)


class _Joining:
    """What a process that starts has seen of the others so far."""

    def __init__(self, coordinator: Coordinator, clock: ClusterClock, boot_id: str) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._boot_id = boot_id
        self._seen: dict[str, int] | None = None
        self._began = 0.0

    def failed(self) -> None:
        """While nobody can write, nobody shows that he is alive."""
        self._seen = None

    async def look(self) -> bool:
        """Whether the clock is right now. Raises `CoordinatorUnavailable`."""
        records = await self._coordinator.read_all((TIME_KEY, LEASE_PREFIX, MASTER_PREFIX))
        record = records.get(TIME_KEY)
        known = _decode(record)
        if self._seen is None:
            self._began = self._clock.boottime()
        else:
            heard_ms = _heard(self._seen, records)
            if heard_ms:
                self._take_over(heard_ms, known)
                return True
        self._seen = {key: each.version for key, each in records.items()}
        is_same_boot = known is not None and known.boot_id == self._boot_id
        if len(records) > (record is not None) or not (known is None or is_same_boot):
            wait_s = SAME_BOOT_WAIT_S if is_same_boot else OTHER_BOOT_WAIT_S
            if self._clock.boottime() - self._began < wait_s:
                return False
        return await self._lead_on(known, record)

    def _take_over(self, heard_ms: int, known: TimeRecord | None) -> None:
        """From a process that lives: under the same boot by the record, which knows exactly, unless we differ from it."""
        now_ms = self._recorded(known)
        self._clock.agree(now_ms if abs(now_ms - heard_ms) <= _CLOSE_MS else heard_ms)

    async def _lead_on(self, known: TimeRecord | None, record: Record | None) -> bool:
        """Nobody is alive."""
        now_ms = self._recorded(known)
        if now_ms:
            self._clock.agree(now_ms)
            self._warn()
            return True
        now_ms = int(self._clock.wall() * 1000)
        if known is not None and now_ms < known.latest_ms:
            _log.warning(
                "the wall clock is behind the cluster's time, which goes on where it was",
                behind_ms=known.latest_ms - now_ms,
            )
            now_ms = known.latest_ms
        self._clock.agree(now_ms)
        return await _write(self._coordinator, self._clock, self._boot_id, record, now_ms)

    def _recorded(self, known: TimeRecord | None) -> int:
        """The time by the record; 0 if it is of another boot."""
        if known is None or known.boot_id != self._boot_id:
            return 0
        return int(self._clock.boottime() * 1000) + known.offset_ms

    def _warn(self) -> None:
        ahead_ms = self._clock.wall_ahead_ms()
        if abs(ahead_ms) > _CLOSE_MS:
            _log.info("the wall clock is not what cluster time began with", ahead_ms=ahead_ms)


async def _write(
    coordinator: Coordinator,
    clock: ClusterClock,
    boot_id: str,
    before: Record | None,
    now_ms: int,
) -> bool:
    """Whether the record is ours now; not if somebody else wrote meanwhile."""
    record = TimeRecord(boot_id=boot_id, offset_ms=clock.offset_ms, latest_ms=now_ms)
    commit = Commit(
        expect={TIME_KEY: 0 if before is None else before.version},
        put={TIME_KEY: msgspec.json.encode(record)},
    )
    return await coordinator.commit(commit) is not None


def _heard(seen: Mapping[str, int], records: Mapping[str, Record]) -> int:
    """The latest time that anybody has written since `seen` (versions by key) was read; 0 if nobody did."""
    latest_ms = 0
    for key, record in records.items():
        if seen.get(key) == record.version:
            continue
        if key == TIME_KEY:
            known = _decode(record)
            latest_ms = max(latest_ms, 0 if known is None else known.latest_ms)
            continue
        with suppress(msgspec.DecodeError):
            latest_ms = max(latest_ms, decode_json(record.value, _LeasedRow).now_ms)
    return latest_ms


def _decode(record: Record | None) -> TimeRecord | None:
    if record is None:
        return None
    try:
        return decode_json(record.value, TimeRecord)
    except msgspec.DecodeError as error:
        _log.error("the record of the time cannot be read", reason=str(error))
        return None
