"""The cluster's record: made once, by the first process that finds none."""

from __future__ import annotations

import secrets

import msgspec

from ringmaster.coordinator import Commit, Coordinator
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.clock import Clock

CLUSTER_KEY = "cluster"

STOPPING_KEY = "admin/stopping"
"""There while all of the cluster stops, and after, until it is started again."""


class ClusterRecord(msgspec.Struct, frozen=True):
    """`id`: 32 hex digits; `secret`: 64, known to the cluster's processes only; `created`: wall seconds."""

    id: str
    secret: str
    partitions: int
    created: float


async def ensure_cluster(coordinator: Coordinator, partitions: int, clock: Clock) -> ClusterRecord:
    """The record that is there, else a new one with `partitions` (a power of two).

    Raises `CoordinatorUnavailable`; a record may have been made all the same, and the next call finds it.
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
    raise CoordinatorUnavailable("the cluster's record comes and goes")


def _decode(raw: bytes) -> ClusterRecord:
    try:
        return msgspec.json.decode(raw, type=ClusterRecord)
    except msgspec.DecodeError as error:
        raise CoordinatorUnavailable(f"the cluster's record cannot be read: {error}") from error
