"""Switches that break R13: each is caught by a value that a master answered with after it could be old."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any
from unittest.mock import patch

import aux.replication.fill
from aux.node.grants import Grants
from aux.node.node_clock import NodeClock
from aux.replication.primary import Primary
from aux.replication.replica import Replica
from aux.server.copy_commands import CopyCommands
from ringmaster.protocol.entry import HEADER_SIZE, is_bare
from ringmaster.protocol.tag_records import HOLDERS
from ringmaster.routing.copies import Copies, Copy
from ringmaster.routing.event_links import EventLinks
from ringmaster.routing.links import Owner
from tests.sim.loop import NodeLoop
from tests.sim.mutation import Mutants

COPY_MUTANTS = mutant = Mutants()


@mutant
def copies_outlive_their_session() -> Iterator[None]:
    """R13: a master answers from a copy although its session is not trusted any more."""
    with patch.object(Copies, "find", _find):
        yield


def _find(copies: Copies, key: bytes) -> Copy | None:
    copy = copies.held.get(key)
    return None if copy is None or copies._clock.boottime() >= copy.until else copy


@mutant
def copies_in_bulk_outlive_their_session() -> Iterator[None]:
    """R13: a bulk read of which a master has all values is answered although a session is not trusted any more."""

    def values_of(copies: Copies, keys: Sequence[bytes]) -> list[bytes] | None:
        found = [copy.entry for key in keys if (copy := _find(copies, key)) and is_bare(copy.entry)]
        return [entry[HEADER_SIZE:] for entry in found] if len(found) == len(keys) else None

    with patch.object(Copies, "values_of", values_of):
        yield


@mutant
def copies_by_cached_time() -> Iterator[None]:
    """R13: whether the session is trusted is decided by the time at which the turn of the loop began."""
    tick, find = NodeLoop.tick, Copies.find
    cached: dict[Any, float] = {}

    def cached_tick(loop: NodeLoop) -> None:
        if not loop._ready and loop.frozen_until <= loop.hub.now:
            cached[loop] = loop.boottime_at(loop.hub.now)
        tick(loop)

    class Cached:
        def __init__(self, loop: NodeLoop) -> None:
            self.loop = loop

        def boottime(self) -> float:
            return cached.get(self.loop, self.loop.boottime())

    def by_cached_time(copies: Copies, key: bytes) -> Copy | None:
        clock: Any = copies._clock
        copies._clock = Cached(asyncio.get_running_loop())  # type: ignore[assignment, arg-type]
        try:
            return find(copies, key)
        finally:
            copies._clock = clock

    with (
        patch.object(NodeLoop, "tick", cached_tick),
        patch.object(Copies, "find", by_cached_time),
    ):
        yield


@mutant
def committed_before_copies_are_dropped() -> Iterator[None]:
    """R13: a write does not wait for the masters that have copies of the key."""
    recall = Grants.recall

    def unawaited(grants: Grants, primary: Primary, given: Any) -> None:
        recall(grants, primary, given)

    with patch.object(Grants, "recall", unawaited):
        yield


@mutant
def granted_with_a_write_under_way() -> Iterator[None]:
    """R13: a copy is given of a key that has an uncommitted write, which has asked for the copies before."""
    offer = Grants.offer

    def blind(grants: Grants, primary: Primary, key: bytes, entry: bytes) -> None:
        with patch.object(Primary, "in_overlay", lambda *_: False):
            offer(grants, primary, key, entry)

    with patch.object(Grants, "offer", blind):
        yield


@mutant
def new_term_does_not_wait() -> Iterator[None]:
    """R13: a new primary commits at once, whatever masters have of the term before."""
    with patch.object(Grants, "shut", lambda *_, **__: None):
        yield


@mutant
def copies_kept_across_a_term() -> Iterator[None]:
    """R13: a master that follows a view keeps its copies of partitions whose primary is another one in it, or is gone."""

    def keep(events: EventLinks, owners: set[Owner]) -> None:
        for session in events._sessions.values():
            session.follow()
        for owner in sorted(owners):
            events.with_node(owner)

    with patch.object(Copies, "rerouted", lambda *_: None), patch.object(EventLinks, "keep", keep):
        yield


@mutant
def handed_over_with_copies_out() -> Iterator[None]:
    """R13: a partition is released before its copies were taken back."""

    def is_clear(primary: Primary) -> bool:
        return not primary.pending

    with (
        patch.object(Primary, "is_clear", property(is_clear)),
        patch.object(Primary, "take_back", lambda _: None),
    ):
        yield


@mutant
def holders_known_to_one_copy_only() -> Iterator[None]:
    """R13: other copies of a partition do not note which masters may have copies."""
    control = Replica._apply_control

    def forgetful(replica: Replica, key: bytes, entry: bytes | None) -> None:
        if key != HOLDERS:
            control(replica, key, entry)

    with patch.object(Replica, "_apply_control", forgetful):
        yield


@mutant
def holders_not_filled() -> Iterator[None]:
    """R13: a fill does not say which masters may have copies."""

    def without(_holders: Any, *others: Any) -> Any:
        return chain(*others)

    with patch.object(aux.replication.fill, "chain", without):
        yield


def _left_with_masters(primary: Primary, key: bytes) -> None:
    """`Primary._remove`, which leaves the copies of the key where they are."""
    held = primary.held.pop(key, None)
    if primary._store.remove(primary.data, key) is not None:
        primary.submit(key, None, applied=True)
    if held is not None:
        primary.held[key] = held


@mutant
def copies_expire_by_the_wall_clock() -> Iterator[None]:
    """R13: a copy's time to live is that of the node's wall clock, and nothing else ends it."""
    offer = Grants.offer

    def by_wall(grants: Grants, primary: Primary, key: bytes, entry: bytes) -> None:
        def now_ms(clock: NodeClock) -> int:
            return int(clock.wall() * 1000)

        with patch.object(NodeClock, "now_ms", now_ms):
            offer(grants, primary, key, entry)

    with (
        patch.object(Grants, "offer", by_wall),
        patch.object(Primary, "_remove", _left_with_masters),
    ):
        yield


@mutant
def invalidated_with_copies_out() -> Iterator[None]:
    """R13: the invalidation of a tag does not take back the copies of what carries it."""
    with patch.object(Primary, "_recall_carriers", lambda *_: None):
        yield


@mutant
def session_renewed_without_the_lease() -> Iterator[None]:
    """R13: a node has masters trust their sessions although its own lease has lapsed."""

    def renew(commands: CopyCommands, *args: Any) -> bytes:
        with patch.object(NodeClock, "lease_held", lambda _: True):
            return original(commands, *args)

    original = CopyCommands.renew
    with patch.object(CopyCommands, "renew", renew):
        yield
