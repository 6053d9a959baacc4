"""Leases (R2): keeping one, and watching others'.

A lease is a row whose number its holder raises every `LEASE_RENEW_S` by a conditional write. The holder trusts a renewal
for `LEASE_TRUST * LEASE_TTL_S` from the moment it *sent* it. The controller may revoke a lease once the row has not
changed for `LEASE_TTL_S` since it was first *read* so, on condition that it still has not. A renewal that takes effect
late, or whose reply is lost, does no harm: it is read no earlier than it was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from ringmaster.cluster.timing import LEASE_RENEW_S, LEASE_TRUST, LEASE_TTL_S
from ringmaster.coordinator import Commit, Coordinator, Record
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.clock import Clock
from ringmaster.runtime.decoding import decode_json

TRUST_S = LEASE_TRUST * LEASE_TTL_S
"""How long a holder trusts a renewal, from sending it."""

LEASE_PREFIX: Final = "lease/"

_RETRY_S = 0.1
_ATTEMPT_S = LEASE_RENEW_S
_MAX_UNRESOLVED = 64

_log = structlog.get_logger(__name__)


class LeaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """`lease/<node id>`. `boot_id` and `lock` are the holder's, so that its death can be proven from this row alone.

    `now_ms`: its cluster time when it wrote this; 0 if it did not.
    """

    incarnation: str
    number: int
    refused: bool = False
    boot_id: str = ""
    lock: tuple[int, int] = (0, 0)
    now_ms: int = 0

    def with_refused(self, refused: bool) -> LeaseRow:
        """The row as another process writes it, which does not know the holder's time."""
        return msgspec.structs.replace(self, refused=refused, now_ms=0)


class _Held(msgspec.Struct, frozen=True):
    """The fields that every kind of leased row has."""

    incarnation: str
    number: int
    refused: bool = False


def lease_key(node_id: str) -> str:
    """The key of a node's lease."""
    return LEASE_PREFIX + node_id


class LeaseKeeper:
    """Renews the row at `key` for `incarnation`, from the loop that serves: a loop that hangs renews nothing.

    `version` is the row's, `encode(number)` makes its value at each renewal. `on_revoked` is called once, when the row is
    found missing or to be another incarnation's; from then on `held_until` is 0 and `run` returns. `refused`: renewals
    are refused, and the row is only read until they are allowed again.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        clock: Clock,
        key: str,
        incarnation: str,
        version: int,
        encode: Callable[[int], bytes],
        on_revoked: Callable[[], None],
    ) -> None:
        self.held_until = 0.0
        self.refused = False
        self.revoked = False
        self._coordinator = coordinator
        self._clock = clock
        self._key = key
        self._incarnation = incarnation
        self._version = version
        self._encode = encode
        self._on_revoked = on_revoked
        self._number = 0
        self._sent: dict[int, float] = {}  # renewals whose outcome is not known yet
        self._available = True
        self._failure: str | None = None  # why the last renewal could not be written

    def __repr__(self) -> str:
        state = (
            "revoked"
            if self.revoked
            else "refused"
            if self.refused
            else f"until {self.held_until:.3f}"
        )
        return f"<LeaseKeeper {self._key} {self._incarnation} {state}>"

    @property
    def is_held(self) -> bool:
        """Whether the lease holds by the clock read now."""
        return self._clock.boottime() < self.held_until

    async def run(self) -> None:
        """Renew until revoked. Renewals never overlap; while the coordinator is away they are retried."""
        while not self.revoked:
            began = self._clock.boottime()
            try:
                if self.refused or not await self._renew():
                    await self._resolve()
            except CoordinatorUnavailable as error:
                self._note(str(error))
                pause = _RETRY_S
            else:
                # It may answer reads and take no writes, as on a full disk.
                self._note(None if self.is_held else self._failure)
                pause = max(began + LEASE_RENEW_S - self._clock.boottime(), 0.0)
            if not self.revoked:
                await asyncio.sleep(pause)

    async def release(self, timeout_s: float = LEASE_RENEW_S) -> None:
        """Give the lease up, after `run` was stopped, so that nobody has to wait for it to lapse. Best effort."""
        self.held_until = 0.0
        self.revoked = True
        commit = Commit(expect={self._key: self._version}, delete=frozenset({self._key}))
        try:
            await self._coordinator.commit(commit, timeout_s)
        except CoordinatorUnavailable as error:
            _log.info("lease not released, it will lapse", key=self._key, reason=str(error))

    async def _renew(self) -> bool:
        """Whether a renewal is known to have taken effect."""
        self._number += 1
        number = self._number
        commit = Commit(expect={self._key: self._version}, put={self._key: self._encode(number)})
        if len(self._sent) >= _MAX_UNRESOLVED:
            del self._sent[min(self._sent)]
        sent = self._sent[number] = self._clock.boottime()
        try:
            versions = await self._coordinator.commit(commit, _ATTEMPT_S)
        except CoordinatorUnavailable as error:
            self._failure = str(error)
            return False
        self._failure = None
        if versions is None or self.revoked:
            return False
        self._version = versions[self._key]
        self._hold(sent)
        return True

    async def _resolve(self) -> None:
        """Read the row to learn the outcome of renewals. Raises `CoordinatorUnavailable`."""
        record = (await self._coordinator.read(self._key, _ATTEMPT_S)).get(self._key)
        if self.revoked:
            return
        row = _decode(record)
        if record is None or row is None or row.incarnation != self._incarnation:
            self._revoke()
            return
        self._version = record.version
        sent = self._sent.get(row.number)
        if sent is not None:
            self._hold(sent)
        if row.refused != self.refused:
            self.refused = row.refused
            _log.warning(
                "lease renewals refused" if row.refused else "lease renewals allowed again",
                key=self._key,
            )

    def _hold(self, sent: float) -> None:
        self.held_until = max(self.held_until, sent + TRUST_S)
        # The row's version is past every renewal sent before: none of those can take effect any more.
        self._sent.clear()

    def _revoke(self) -> None:
        self.held_until = 0.0
        self.revoked = True
        _log.warning("lease revoked", key=self._key, incarnation=self._incarnation)
        self._on_revoked()

    def _note(self, failure: str | None) -> None:
        available = failure is None
        if available != self._available:
            self._available = available
            if available:
                _log.info("lease: the coordinator is back", key=self._key)
            else:
                _log.warning("lease cannot be renewed", key=self._key, reason=failure)


def _decode(record: Record | None) -> _Held | None:
    if record is None:
        return None
    try:
        return decode_json(record.value, _Held)
    except msgspec.DecodeError:
        return None


class LeaseWatch:
    """For how long each watched row has not changed, with successful reads throughout. Pure: no I/O, no clock.

    It compares versions, so any change counts. After a failed read, or more than `max_gap_s` between two reads, all
    counts begin anew: while nobody could renew, nobody is late.
    """

    def __init__(self, max_gap_s: float = 1.0) -> None:
        self._max_gap_s = max_gap_s
        self._last: float | None = None
        self._first: dict[str, tuple[int, float]] = {}

    def observe(self, now: float, versions: Mapping[str, int]) -> None:
        """A read of all rows succeeded. `now`: boottime in seconds, read after its reply came."""
        if self._last is not None and now - self._last > self._max_gap_s:
            self._first.clear()
        self._last = now
        before = self._first
        self._first = {
            name: before[name] if before.get(name, (0, 0.0))[0] == version else (version, now)
            for name, version in versions.items()
        }

    def failed(self) -> None:
        """A read failed."""
        self._last = None
        self._first.clear()

    def unchanged_for(self, name: str) -> float:
        """Seconds between the first and the latest read that found the row of `name` as it is; 0 if there is none.

        At `LEASE_TTL_S` or more its holder no longer trusts it, unless it has changed since: revoke on condition that
        its version is still the same.
        """
        first = self._first.get(name)
        return 0.0 if first is None or self._last is None else self._last - first[1]

    def unchanged(self, for_s: float) -> dict[str, int]:
        """The rows that have not changed for `for_s` seconds, and their versions."""
        last = self._last
        if last is None:
            return {}
        return {
            name: version for name, (version, since) in self._first.items() if last - since >= for_s
        }
