"""What a cycle of the controller reads from the coordinator: two calls, and mostly one when idle.

A call switches to another thread or machine and back, which costs more processor time than the rows do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec
import structlog

from master.control.planning.observation import LeaseSeen
from ringmaster.cluster.lease import LEASE_PREFIX, LeaseRow, LeaseWatch
from ringmaster.cluster.master_watch import MasterWatch
from ringmaster.cluster.registration import MASTER_PREFIX, NODE_PREFIX, MasterRow
from ringmaster.cluster.runtime_settings import RuntimeSettings, asked_settings
from ringmaster.cluster.time_agreement import TIME_KEY
from ringmaster.cluster.view import NodeInfo
from ringmaster.coordinator import Coordinator, Record
from ringmaster.coordinator.cluster_record import STOPPING_KEY
from ringmaster.runtime.clock import Clock
from ringmaster.runtime.decoding import decode_json

REUSE_S: Final = 0.3
"""For so long registrations and operators' requests are not read again while nothing happens."""

MASTER_FORGOTTEN_S: Final = 600.0
"""A master whose row has not changed for so long will not come back under this incarnation: its row is deleted."""

_ADMIN_PREFIX: Final = "admin/"
_PAUSE_KEY: Final = "admin/pause"

_log = structlog.get_logger(__name__)
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class LeaseRows:
    """Leases by node id, and the rows of live masters by id."""

    leases: dict[str, LeaseSeen]
    masters: dict[str, MasterRow]


@dataclass(frozen=True, slots=True)
class ClusterRows:
    """What a plan is made from. `admin`: keys. `settings`: as operators ask for. `time`: the record of `TIME_KEY`. `is_reused`: the others were read for an earlier cycle."""

    leases: dict[str, LeaseSeen]
    nodes: dict[str, NodeInfo]
    admin: frozenset[str]
    settings: RuntimeSettings
    time: Record | None
    is_reused: bool

    @property
    def is_stopping(self) -> bool:
        """Whether the whole cluster is being stopped."""
        return STOPPING_KEY in self.admin

    @property
    def is_paused(self) -> bool:
        """Whether an operator has paused rebalancing."""
        return _PAUSE_KEY in self.admin

    def requested(self, action: str) -> frozenset[str]:
        """For what an operator has requested `action`: nodes to `drain` or `forget`."""
        prefix = f"{_ADMIN_PREFIX}{action}/"
        return frozenset(key.removeprefix(prefix) for key in self.admin if key.startswith(prefix))


class CoordinatorReader:
    """Reads rows, and watches the numbers of those that are leased. Every read raises `CoordinatorUnavailable`.

    `lapse_at`: boottime in seconds at which the first lease that is alive lapses, unless it is renewed.
    """

    def __init__(self, coordinator: Coordinator, clock: Clock, lease_ttl_s: float) -> None:
        self.lapse_at = 0.0
        self._coordinator = coordinator
        self._clock = clock
        self._lease_ttl_s = lease_ttl_s
        self._leases = LeaseWatch()
        self._masters = MasterWatch(lease_ttl_s)
        self._rest: tuple[float, ClusterRows] | None = None

    async def read_leases(self) -> LeaseRows:
        """Read the leased rows. To be called at least once a second: after a longer gap all counts begin anew."""
        records = await self._coordinator.read_all((LEASE_PREFIX, MASTER_PREFIX))
        now = self._clock.boottime()
        of_nodes = _below(LEASE_PREFIX, records)
        self._leases.observe(now, {key: record.version for key, record in of_nodes.items()})
        masters = self._masters.observe(now, records)
        leases = {
            key.removeprefix(LEASE_PREFIX): LeaseSeen(
                row, records[key].version, self._leases.unchanged_for(key)
            )
            for key, row in _decode(of_nodes, LeaseRow).items()
        }
        left_s = (self._lease_ttl_s - lease.unchanged_for_s for lease in leases.values())
        self.lapse_at = now + min((left for left in left_s if left > 0), default=self._lease_ttl_s)
        return LeaseRows(leases, masters)

    async def read_rest(self, leases: LeaseRows, *, may_reuse: bool) -> ClusterRows:
        """Read the other rows, after `leases`. `may_reuse`: rows read less than `REUSE_S` ago will do."""
        known, now = self._rest, self._clock.boottime()
        if may_reuse and known is not None and now - known[0] < REUSE_S:
            return replace(known[1], leases=leases.leases, is_reused=True)
        self._rest = None
        records = await self._coordinator.read_all((NODE_PREFIX, _ADMIN_PREFIX, TIME_KEY))
        nodes = {info.id: info for info in _decode(_below(NODE_PREFIX, records), NodeInfo).values()}
        admin = frozenset(_below(_ADMIN_PREFIX, records))
        rows = ClusterRows(
            leases.leases,
            nodes,
            admin,
            asked_settings(records),
            records.get(TIME_KEY),
            is_reused=False,
        )
        self._rest = (now, rows)
        return rows

    def gone_masters(self) -> dict[str, int]:
        """Keys and versions of the rows of masters that ended long ago."""
        return self._masters.unchanged(MASTER_FORGOTTEN_S)

    def failed(self) -> None:
        """A read failed: while nobody could renew or read, nobody is late."""
        self._leases.failed()
        self._masters.failed()
        self._rest = None


def _below(prefix: str, records: Mapping[str, Record]) -> dict[str, Record]:
    return {key: record for key, record in records.items() if key.startswith(prefix)}


def _decode(records: Mapping[str, Record], kind: type[_Struct]) -> dict[str, _Struct]:
    """The rows that can be decoded; one that cannot counts as absent."""
    rows = {}
    for key, record in records.items():
        try:
            rows[key] = decode_json(record.value, kind)
        except msgspec.DecodeError as error:
            _log.error("unreadable row ignored", key=key, reason=str(error))
    return rows
