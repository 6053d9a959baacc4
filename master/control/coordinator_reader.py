"""What a cycle of the controller reads of the coordinator: two calls, and at rest mostly one.

A call hands over to another thread or another machine and back, which costs a processor more than the rows do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import structlog

from master.control.planning.observation import LeaseSeen
from ringmaster.cluster.lease import LeaseRow, LeaseWatch
from ringmaster.cluster.registration import MasterRow
from ringmaster.cluster.view import NodeInfo
from ringmaster.coordinator import Coordinator, Record
from ringmaster.runtime.clock import Clock

REMEMBER_S = 0.3
"""For so long registrations and operators' requests need not be read again while nothing happens."""

MASTER_FORGOTTEN_S = 600.0
"""A master whose number has stood still for so long is not coming back under this incarnation: its row goes."""

_LEASE, _MASTER, _NODE, _ADMIN = "lease/", "master/", "node/", "admin/"

_log = structlog.get_logger(__name__)
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Leased:
    """Leases by node, and rows of live masters by id: one whose number stands still says nothing any more."""

    leases: dict[str, LeaseSeen]
    masters: dict[str, MasterRow]


@dataclass(frozen=True, slots=True)
class Read:
    """What a plan rests on. `is_remembered`: `nodes` and `admin` (keys) were read for a cycle before this one."""

    leases: dict[str, LeaseSeen]
    nodes: dict[str, NodeInfo]
    admin: frozenset[str]
    is_remembered: bool


class Reads:
    """Reads, and watches the numbers of what is leased. Every read raises `CoordinatorUnavailable`.

    `lapse_at`: boottime in seconds when the first lease that was found alive lapses, if it does not change.
    """

    def __init__(self, coordinator: Coordinator, clock: Clock, lease_ttl_s: float) -> None:
        self.lapse_at = 0.0
        self._coordinator = coordinator
        self._clock = clock
        self._lease_ttl_s = lease_ttl_s
        self._leases = LeaseWatch()
        self._masters = LeaseWatch()
        self._registered: tuple[float, dict[str, NodeInfo], frozenset[str]] | None = None

    async def leased(self) -> Leased:
        """Read it. To be called at least once a second: a longer gap begins all counts anew."""
        records = await self._coordinator.read_all((_LEASE, _MASTER))
        now = self._clock.boottime()
        of_nodes, of_masters = _below(_LEASE, records), _below(_MASTER, records)
        self._leases.observe(now, {key: record.version for key, record in of_nodes.items()})
        self._masters.observe(now, {key: record.version for key, record in of_masters.items()})
        leases = {
            key.removeprefix(_LEASE): LeaseSeen(
                row, records[key].version, self._leases.unchanged_for(key)
            )
            for key, row in _rows(of_nodes, LeaseRow).items()
        }
        masters = {
            key.removeprefix(_MASTER): row
            for key, row in _rows(of_masters, MasterRow).items()
            if self._masters.unchanged_for(key) < self._lease_ttl_s
        }
        left_s = (self._lease_ttl_s - lease.unchanged_for_s for lease in leases.values())
        self.lapse_at = now + min((left for left in left_s if left > 0), default=self._lease_ttl_s)
        return Leased(leases, masters)

    async def all(self, leased: Leased, *, may_remember: bool) -> Read:
        """Read the rest, leases first. `may_remember`: a rest read less than `REMEMBER_S` ago will do, once more."""
        known, now = self._registered, self._clock.boottime()
        if may_remember and known is not None and now - known[0] < REMEMBER_S:
            return Read(leased.leases, known[1], known[2], is_remembered=True)
        self._registered = None
        records = await self._coordinator.read_all((_NODE, _ADMIN))
        nodes = {info.id: info for info in _rows(_below(_NODE, records), NodeInfo).values()}
        admin = frozenset(_below(_ADMIN, records))
        self._registered = (now, nodes, admin)
        return Read(leased.leases, nodes, admin, is_remembered=False)

    def gone_masters(self) -> dict[str, int]:
        """Keys and versions of the rows of masters that ended long ago."""
        return self._masters.unchanged(MASTER_FORGOTTEN_S)

    def failed(self) -> None:
        """A read failed: while nobody could renew or read, nobody is late."""
        self._leases.failed()
        self._masters.failed()
        self._registered = None


def _below(prefix: str, records: Mapping[str, Record]) -> dict[str, Record]:
    return {key: record for key, record in records.items() if key.startswith(prefix)}


def _rows(records: Mapping[str, Record], kind: type[_Struct]) -> dict[str, _Struct]:
    """What can be read; a row that cannot is as good as absent."""
    rows = {}
    for key, record in records.items():
        try:
            rows[key] = msgspec.json.decode(record.value, type=kind)
        except msgspec.DecodeError as error:
            _log.error("unreadable row ignored", key=key, reason=str(error))
    return rows
