"""Switches that break R11: each is caught by reads, or by copies that differ, once tags were invalidated."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any
from unittest.mock import patch

import aux.replication.fill
import aux.storage.expiry
import ringmaster.routing.router
from aux.node.tag_sweep import Sweep
from aux.replication.pending import Waiter
from aux.replication.primary import Primary
from aux.replication.replica import Replica
from tests.sim.mutation import Mutants

TAG_MUTANTS = mutant = Mutants()


@mutant
def records_not_filled() -> Iterator[None]:
    """R11: a fill leaves the records of tags out."""

    def without(holders: Any, _records: Any, *others: Any) -> Any:
        return chain(holders, *others)

    with patch.object(aux.replication.fill, "chain", without):
        yield


@mutant
def invalidated_before_it_is_committed() -> Iterator[None]:
    """R11: an invalidation is acknowledged when it is sequenced."""
    submit_record = Primary.submit_record

    def early(
        primary: Primary, key: bytes, record: bytes | None, waiter: Waiter | None = None
    ) -> None:
        submit_record(primary, key, record)
        if waiter is not None:
            waiter.resolve(b"")

    with patch.object(Primary, "submit_record", early):
        yield


@mutant
def moved_partitions_taken_for_invalidated() -> Iterator[None]:
    """R11: a partition that its node does not serve any more is not asked again."""
    left_over = ringmaster.routing.router.left_over

    def blind(part: Any, reply: Any) -> list[int]:
        return left_over(part, [] if isinstance(reply, list) else reply)

    with patch.object(ringmaster.routing.router, "left_over", blind):
        yield


@mutant
def failed_invalidations_not_repeated() -> Iterator[None]:
    """R11: a node whose link broke counts as done."""
    left_over = ringmaster.routing.router.left_over

    def lax(part: Any, reply: Any) -> list[int]:
        return left_over(part, reply if isinstance(reply, list) else [])

    with patch.object(ringmaster.routing.router, "left_over", lax):
        yield


@mutant
def records_dropped_before_the_sweep() -> Iterator[None]:
    """R11: the record of a tag goes although what it killed is still there."""

    def step(sweep: Sweep, _most: int) -> int:
        sweep._keys.clear()
        return 0

    with patch.object(Sweep, "step", step):
        yield


@mutant
def copies_do_not_note_tags() -> Iterator[None]:
    """R11: a copy does not know what its entries may carry; as primary it takes nothing to be there."""

    def apply(replica: Replica, *args: Any) -> bool:
        with patch.object(type(replica.data), "carry", lambda *_: None):
            return original(replica, *args)

    original = Replica.apply
    with patch.object(Replica, "apply", apply):
        yield


@mutant
def writes_do_not_see_invalidations() -> Iterator[None]:
    """R11: a write takes an entry for present that a tag has killed."""

    def is_gone(_primary: Primary, newest: bytes, now_ms: int) -> bool:
        return aux.storage.expiry.is_expired(newest, now_ms)

    with patch.object(Primary, "is_gone", is_gone):
        yield
