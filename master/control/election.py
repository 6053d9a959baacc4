"""The election: the controller is the master that holds the lease `controller`; any other can take it over at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from ringmaster.cluster.lease import LeaseKeeper, LeaseWatch
from ringmaster.cluster.process_lock import HeldLock, Liveness
from ringmaster.cluster.registration import (
    CONTROLLER_KEY,
    ControllerRow,
    MasterRow,
    decode_controller,
    master_lock,
)
from ringmaster.cluster.timing import LEASE_TTL_S
from ringmaster.coordinator import Commit, Coordinator
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.clock import Clock

_LOOK_EVERY_S = 0.1
_log = structlog.get_logger(__name__)


class Election:
    """Stands for controller, keeps the lease while elected, and stands again when it is lost.

    The lease is taken when there is none, when its holder is proven dead, or when it has not changed for a TTL. `me`:
    this master's row. `on_elected` is called from the loop.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        liveness: Liveness,
        clock: Clock,
        me: MasterRow,
        on_elected: Callable[[], None],
    ) -> None:
        self._coordinator = coordinator
        self._liveness = liveness
        self._clock = clock
        self._me = me
        self._on_elected = on_elected
        self._watch = LeaseWatch()
        self._keeper: LeaseKeeper | None = None

    @property
    def is_controller(self) -> bool:
        """Whether this master holds the lease, by the clock read now."""
        return self._keeper is not None and self._keeper.is_held

    async def run(self) -> None:
        """Stand until cancelled."""
        while True:
            sent = self._clock.boottime()
            try:
                version = await self._try_to_win()
            except CoordinatorUnavailable:
                self._watch.failed()
                version = 0
            if not version:
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            await self._hold_office(version, sent)

    async def close(self) -> None:
        """Give the lease up, so that the next controller need not wait. After `run` was cancelled."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.release()

    async def _hold_office(self, version: int, sent: float) -> None:
        keeper = self._keeper = LeaseKeeper(
            self._coordinator,
            self._clock,
            CONTROLLER_KEY,
            self._me.incarnation,
            version,
            self._encode,
            lambda: None,
        )
        _log.info(
            "elected controller",
            master=self._me.id,
            after_s=round(self._clock.boottime() - sent, 3),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._announce(keeper))
            await keeper.run()
        self._keeper = None
        _log.warning("no longer controller", master=self._me.id)

    async def _announce(self, keeper: LeaseKeeper) -> None:
        """Call `on_elected` once the lease holds."""
        while not keeper.revoked:
            if keeper.is_held:
                self._on_elected()
                return
            await asyncio.sleep(0.01)

    async def _try_to_win(self) -> int:
        """Look once at the lease and take it if it is free: the version of our row, 0 if we were not elected."""
        record = (await self._coordinator.read(CONTROLLER_KEY)).get(CONTROLLER_KEY)
        self._watch.observe(
            self._clock.boottime(), {} if record is None else {CONTROLLER_KEY: record.version}
        )
        row = decode_controller(record)
        proof: HeldLock | None = None
        if record is not None and self._watch.unchanged_for(CONTROLLER_KEY) < LEASE_TTL_S:
            proof = self._prove_dead(row)
            if proof is None and not self._is_ours(row):
                return 0
        try:
            commit = Commit(
                expect={CONTROLLER_KEY: 0 if record is None else record.version},
                put={CONTROLLER_KEY: self._encode(0)},
            )
            versions = await self._coordinator.commit(commit)
        finally:
            if proof is not None:
                proof.release()
        return 0 if versions is None else versions[CONTROLLER_KEY]

    def _is_ours(self, row: ControllerRow | None) -> bool:
        """Whether it is ours (by a commit whose reply was lost), or of a predecessor whose lock we hold now."""
        return row is not None and (row.boot_id, row.lock) == (self._me.boot_id, self._me.lock)

    def _prove_dead(self, row: ControllerRow | None) -> HeldLock | None:
        if row is None or row.boot_id != self._liveness.boot_id or self._is_ours(row):
            return None
        return self._liveness.prove_dead(master_lock(row.id), row.lock)

    def _encode(self, number: int) -> bytes:
        me = self._me
        return msgspec.json.encode(
            ControllerRow(
                id=me.id,
                incarnation=me.incarnation,
                number=number,
                boot_id=me.boot_id,
                lock=me.lock,
            )
        )
