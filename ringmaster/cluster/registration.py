"""The rows of nodes and masters, and how a process registers: lock, new incarnation, rows (R5).

The row of a predecessor of the same id is replaced at once if that process is proven gone: it ran under this very boot,
and we hold the lock file that it held. Otherwise a node waits until its predecessor's lease is revoked (its row
deleted), and a master, on which nothing depends, until its predecessor's row has not changed for `LEASE_TTL_S`. So the
incarnation in `lease/<id>` never changes while an older one may still serve.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
import structlog

from ringmaster.cluster.lease import LeaseKeeper, LeaseRow, LeaseWatch, lease_key
from ringmaster.cluster.process_lock import HeldLock, Liveness
from ringmaster.cluster.timing import LEASE_TTL_S
from ringmaster.cluster.view import NodeInfo
from ringmaster.coordinator import Commit, Coordinator, Record
from ringmaster.errors import CoordinatorUnavailable, DuplicateId
from ringmaster.runtime.clock import Clock
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.runtime.decoding import decode_json

NODE_PREFIX: Final = "node/"
MASTER_PREFIX: Final = "master/"
CONTROLLER_KEY: Final = "controller"

LOCK_PATIENCE_S: Final = 2.0
"""A controller that proves our predecessor dead holds the lock for a moment; held for longer, it is a live process's."""

PATIENCE_S: Final = 60.0
"""How long to wait for the predecessor's lease to be revoked."""

_PAUSE_S = 0.1

_log = structlog.get_logger(__name__)

_Row = TypeVar("_Row", LeaseRow, NodeInfo, "MasterRow", "ControllerRow")


class MasterRow(msgspec.Struct, frozen=True, kw_only=True):
    """`master/<id>`: renewed like a lease. `unreachable`: ids of the nodes that this master cannot reach.

    `now_ms`: its cluster time when it wrote this. `tls`: where it listens with the certificate of its links, empty if it does not. `settings`: the version
    of the run-time settings it follows, -1 if it is of a version that knows of none.
    """

    id: str
    address: str
    tls: str = ""
    incarnation: str = ""
    number: int = 0
    pid: int = 0
    unreachable: tuple[str, ...] = ()
    boot_id: str = ""
    lock: tuple[int, int] = (0, 0)
    now_ms: int = 0
    settings: int = -1


class ControllerRow(msgspec.Struct, frozen=True, kw_only=True):
    """`controller`: renewed like a node's lease. `boot_id` and `lock` let another master prove the holder dead."""

    id: str
    incarnation: str
    number: int = 0
    boot_id: str = ""
    lock: tuple[int, int] = (0, 0)


def decode_controller(record: Record | None) -> ControllerRow | None:
    """The row in `record`; None if there is none or it cannot be read."""
    return None if record is None else _decode(record, ControllerRow)


def node_key(node_id: str) -> str:
    """The key of a node's registration."""
    return NODE_PREFIX + node_id


def master_key(master_id: str) -> str:
    """The key of a master's row."""
    return MASTER_PREFIX + master_id


def master_lock(master_id: str) -> str:
    """The name of a master's lock; no node has the same, since ids contain no `@`."""
    return f"master@{master_id}"


def new_incarnation() -> str:
    """16 random hex digits."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Registration:
    """A registered node. `lock` is held for life; `version` is that of the lease's row."""

    info: NodeInfo
    version: int
    lock: HeldLock

    def keeper(
        self, coordinator: Coordinator, clock: ClusterClock, on_revoked: Callable[[], None]
    ) -> LeaseKeeper:
        """The keeper of this node's lease."""
        info = self.info
        key = lease_key(info.id)
        return LeaseKeeper(
            coordinator,
            clock,
            key,
            info.incarnation,
            self.version,
            lambda number: _encode_lease(info, number, clock.now_ms()),
            on_revoked,
        )


@dataclass(frozen=True, slots=True)
class MasterRegistration:
    """A registered master. `lock` is held for life; `version` is that of its row."""

    row: MasterRow
    version: int
    lock: HeldLock


async def register(
    coordinator: Coordinator,
    liveness: Liveness,
    node: NodeInfo,
    clock: ClusterClock,
    *,
    patience_s: float = PATIENCE_S,
    incarnate: Callable[[], str] = new_incarnation,
) -> Registration:
    """Write `node/<id>` and `lease/<id>` of a new incarnation of `node`, in one commit. Outages are waited out.

    Raises `DuplicateId` if a live process has the id, or if after `patience_s` the predecessor's lease still stands.
    """
    lock = await _hold(liveness, node.id, clock)
    try:
        info = msgspec.structs.replace(
            node, incarnation=incarnate(), boot_id=liveness.boot_id, lock=lock.identity, up=True
        )
        waiting = _Waiting(info.id, clock, patience_s)
        version = await waiting.until_written(
            lambda: _write_node(coordinator, info, clock),
            "the lease of its predecessor is not revoked yet",
        )
        return Registration(info, version, lock)
    except BaseException:
        lock.release()
        raise


async def register_master(
    coordinator: Coordinator,
    liveness: Liveness,
    master: MasterRow,
    clock: Clock,
    *,
    patience_s: float = PATIENCE_S,
    incarnate: Callable[[], str] = new_incarnation,
) -> MasterRegistration:
    """Write `master/<id>` of a new incarnation. Waits and raises as `register` does."""
    lock = await _hold(liveness, master_lock(master.id), clock)
    try:
        row = msgspec.structs.replace(
            master, incarnation=incarnate(), boot_id=liveness.boot_id, lock=lock.identity
        )
        waiting = _Waiting(row.id, clock, patience_s)
        watch = LeaseWatch()
        version = await waiting.until_written(
            lambda: _write_master(coordinator, row, watch, clock),
            "a master of this id may still be alive",
        )
        return MasterRegistration(row, version, lock)
    except BaseException:
        lock.release()
        raise


async def _hold(liveness: Liveness, name: str, clock: Clock) -> HeldLock:
    deadline = clock.boottime() + LOCK_PATIENCE_S
    while True:
        try:
            return liveness.hold(name)
        except DuplicateId:
            if clock.boottime() >= deadline:
                raise
        await asyncio.sleep(_PAUSE_S)


class _Waiting:
    """The pauses of a registration: bounded, each reason logged once in a row."""

    def __init__(self, name: str, clock: Clock, patience_s: float) -> None:
        self._name = name
        self._clock = clock
        self._deadline = clock.boottime() + patience_s
        self._reason = ""

    async def until_written(self, write: Callable[[], Awaitable[int]], obstacle: str) -> int:
        """The version that `write` returns; 0 means that it must wait because of `obstacle`. Raises `DuplicateId`."""
        while True:
            try:
                version = await write()
                reason = obstacle
            except CoordinatorUnavailable as error:
                version, reason = 0, str(error)
            if version:
                return version
            await self._pause(reason)

    async def _pause(self, reason: str) -> None:
        if self._clock.boottime() >= self._deadline:
            raise DuplicateId(f"cannot register as {self._name!r}: {reason}")
        if reason != self._reason:
            self._reason = reason
            _log.info("registration waits", id=self._name, reason=reason)
        await asyncio.sleep(_PAUSE_S)


async def _write_node(coordinator: Coordinator, info: NodeInfo, clock: ClusterClock) -> int:
    """The version of our lease's row; 0 if the predecessor's still stands or somebody else wrote meanwhile."""
    key, lease = node_key(info.id), lease_key(info.id)
    node_record = (await coordinator.read(key)).get(key)
    lease_record = (await coordinator.read(lease)).get(lease)
    if lease_record is not None:
        row = _decode(lease_record, LeaseRow)
        if row is not None and row.incarnation == info.incarnation:
            # A commit of ours whose reply was lost. On two files its second part may be missing.
            registered = None if node_record is None else _decode(node_record, NodeInfo)
            if registered is not None and registered.incarnation == info.incarnation:
                return lease_record.version
        elif row is None or (row.boot_id, row.lock) != (info.boot_id, info.lock):
            return 0
    commit = Commit(
        expect={key: _version(node_record), lease: _version(lease_record)},
        put={key: msgspec.json.encode(info), lease: _encode_lease(info, 0, clock.now_ms())},
    )
    versions = await coordinator.commit(commit)
    return 0 if versions is None else versions[lease]


async def _write_master(
    coordinator: Coordinator, row: MasterRow, watch: LeaseWatch, clock: Clock
) -> int:
    """The version of our row; 0 if a predecessor may be alive or somebody else wrote meanwhile."""
    try:
        return await _try_master(coordinator, row, watch, clock)
    except CoordinatorUnavailable:
        watch.failed()
        raise


async def _try_master(
    coordinator: Coordinator, row: MasterRow, watch: LeaseWatch, clock: Clock
) -> int:
    key = master_key(row.id)
    record = (await coordinator.read(key)).get(key)
    watch.observe(clock.boottime(), {} if record is None else {key: record.version})
    if record is not None:
        before = _decode(record, MasterRow)
        if before is not None and before.incarnation == row.incarnation:
            return record.version
        gone = before is not None and (before.boot_id, before.lock) == (row.boot_id, row.lock)
        if not gone and watch.unchanged_for(key) < LEASE_TTL_S:
            return 0
    commit = Commit(expect={key: _version(record)}, put={key: msgspec.json.encode(row)})
    versions = await coordinator.commit(commit)
    return 0 if versions is None else versions[key]


def _encode_lease(info: NodeInfo, number: int, now_ms: int) -> bytes:
    row = LeaseRow(
        incarnation=info.incarnation,
        number=number,
        boot_id=info.boot_id,
        lock=info.lock,
        now_ms=now_ms,
    )
    return msgspec.json.encode(row)


def _decode(record: Record, kind: type[_Row]) -> _Row | None:
    try:
        return decode_json(record.value, kind)
    except msgspec.DecodeError:
        return None


def _version(record: Record | None) -> int:
    return 0 if record is None else record.version
