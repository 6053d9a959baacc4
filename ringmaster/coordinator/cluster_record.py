"""The cluster record: the cluster's id, secret and number of partitions. The first process that finds none creates it."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from ringmaster.coordinator import Commit, Coordinator
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.clock import Clock
from ringmaster.runtime.decoding import decode_json

CLUSTER_KEY: Final = "cluster"

STOPPING_KEY: Final = "admin/stopping"
"""Present while the whole cluster is stopped: from the command to stop until the next start."""

STARTUP_WAIT_S: Final = 60.0
"""How long a starting process waits for the coordinator."""

_RETRY_S: Final = 0.5

_log = structlog.get_logger(__name__)


class ClusterRecord(msgspec.Struct, frozen=True):
    """`id`: 32 hex digits; `secret`: 64 hex digits, known only to the cluster's processes; `created`: wall-clock seconds."""

    id: str
    secret: str
    partitions: int
    created: float


async def find_cluster(
    coordinator: Coordinator, partitions: int, clock: Clock, stop: asyncio.Event
) -> ClusterRecord | None:
    """`ensure_cluster`, retried until the coordinator answers. None if `stop` is set first.

    Raises `CoordinatorUnavailable` after `STARTUP_WAIT_S`.
    """
    deadline = clock.boottime() + STARTUP_WAIT_S
    while not stop.is_set():
        try:
            return await ensure_cluster(coordinator, partitions, clock)
        except CoordinatorUnavailable as error:
            if clock.boottime() > deadline:
                raise
            _log.warning("waiting for the coordinator", reason=str(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_S):
                await stop.wait()
    return None


async def ensure_cluster(coordinator: Coordinator, partitions: int, clock: Clock) -> ClusterRecord:
    """The existing record, or a new one with `partitions` (a power of two).

    Raises `CoordinatorUnavailable`. The record may have been created all the same; the next call then finds it.
    """
    if partitions < 1 or partitions & (partitions - 1):
        raise ValueError(f"partitions must be a power of two, not {partitions}")
    for _ in range(2):
        records = await coordinator.read(CLUSTER_KEY)
        if CLUSTER_KEY in records:
            return _decode(records[CLUSTER_KEY].value)
        record = ClusterRecord(
            secrets.token_hex(16), secrets.token_hex(32), partitions, clock.wall()
        )
        commit = Commit(expect={CLUSTER_KEY: 0}, put={CLUSTER_KEY: msgspec.json.encode(record)})
        if await coordinator.commit(commit) is not None:
            return record
    raise CoordinatorUnavailable("the cluster record was deleted while it was being read")


def _decode(raw: bytes) -> ClusterRecord:
    try:
        return decode_json(raw, ClusterRecord)
    except msgspec.DecodeError as error:
        raise CoordinatorUnavailable(f"the cluster record cannot be decoded: {error}") from error
