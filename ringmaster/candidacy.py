"""Which master is the controller: the holder of the lease on `controller`.

Nothing rests on there being only one: every view is published on condition of the one before. The lease only keeps
masters from doing the same work twice.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from ringmaster.clock import Clock
from ringmaster.coordinator import Commit, Coordinator
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.lease import LeaseKeeper, LeaseWatch
from ringmaster.liveness import HeldLock, Liveness
from ringmaster.registration import MasterRow, master_lock
from ringmaster.timing import LEASE_RENEW_S, LEASE_TTL_S

CONTROLLER_KEY = "controller"

_PAUSE_S = LEASE_RENEW_S / 2

_log = structlog.get_logger(__name__)


class ControllerRow(msgspec.Struct, frozen=True, kw_only=True):
    """`controller`: who holds it, and what proves the holder's death."""

    id: str
    incarnation: str
    number: int = 0
    boot_id: str = ""
    lock: tuple[int, int] = (0, 0)


class Candidacy:
    """Takes the controller's lease when it is free and keeps it as long as it can.

    Free: absent, unchanged for `LEASE_TTL_S` since this master first read it so, or its holder is proven dead.
    """

    def __init__(
        self, coordinator: Coordinator, clock: Clock, liveness: Liveness, master: MasterRow
    ) -> None:
        """`master` is the registered row of this master."""
        self._coordinator = coordinator
        self._clock = clock
        self._liveness = liveness
        self._row = ControllerRow(
            id=master.id, incarnation=master.incarnation, boot_id=master.boot_id, lock=master.lock
        )
        self._keeper: LeaseKeeper | None = None
        self.holder = ""

    @property
    def is_elected(self) -> bool:
        """Whether this master is the controller by the clock read now."""
        return self._keeper is not None and self._keeper.is_held

    async def run(self) -> None:
        """Stand until cancelled."""
        while True:
            version = await self._win()
            _log.info("controller lease taken", id=self._row.id)
            self._keeper = LeaseKeeper(
                self._coordinator,
                self._clock,
                CONTROLLER_KEY,
                self._row.incarnation,
                version,
                self._encode,
                lambda: _log.warning("controller lease lost", id=self._row.id),
            )
            await self._keeper.run()
            self._keeper = None

    async def resign(self) -> None:
        """Give the lease up, if held, so that another takes over at once. Call after `run` was stopped."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.release()

    async def _win(self) -> int:
        watch = LeaseWatch()
        while True:
            try:
                version = await self._try(watch)
            except CoordinatorUnavailable:
                watch.failed()
                version = 0
            if version:
                return version
            await asyncio.sleep(_PAUSE_S)

    async def _try(self, watch: LeaseWatch) -> int:
        record = (await self._coordinator.read(CONTROLLER_KEY, LEASE_RENEW_S)).get(CONTROLLER_KEY)
        watch.observe(
            self._clock.boottime(), {} if record is None else {CONTROLLER_KEY: record.version}
        )
        proof: HeldLock | None = None
        if record is not None:
            row = _decode(record.value)
            self.holder = "" if row is None else row.id
            if row is not None and row.incarnation == self._row.incarnation:
                return record.version
            lapsed = row is None or watch.unchanged_for(CONTROLLER_KEY) >= LEASE_TTL_S
            if row is not None and not lapsed and not self._is_predecessor(row):
                proof = self._proof(row)
                if proof is None:
                    return 0
        try:
            commit = Commit(
                expect={CONTROLLER_KEY: 0 if record is None else record.version},
                put={CONTROLLER_KEY: self._encode(0)},
            )
            versions = await self._coordinator.commit(commit, LEASE_RENEW_S)
        finally:
            if proof is not None:
                proof.release()
        if versions is None:
            return 0
        self.holder = self._row.id
        return versions[CONTROLLER_KEY]

    def _is_predecessor(self, row: ControllerRow) -> bool:
        """Whether `row` is of this master's process before: we hold the lock it held, so it is gone."""
        ours = self._row
        return (row.id, row.boot_id, row.lock) == (ours.id, ours.boot_id, ours.lock)

    def _proof(self, row: ControllerRow) -> HeldLock | None:
        if row.boot_id != self._liveness.boot_id:
            return None
        return self._liveness.prove_dead(master_lock(row.id), row.lock)

    def _encode(self, number: int) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(self._row, number=number))


def _decode(raw: bytes) -> ControllerRow | None:
    try:
        return msgspec.json.decode(raw, type=ControllerRow)
    except msgspec.DecodeError:
        return None
