"""Switches that break one rule each, to show that the simulation has teeth.

Each is a context manager that patches the real code. `test_mutants.py` shows that every one is caught.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import msgspec

import aux.incarnation
import aux.replication.sender
import aux.storage.write_rules
import master.control.planning.planner
import master.control.planning.target
import ringmaster.cluster.lease
import ringmaster.cluster.time_agreement
import ringmaster.routing.router
from aux.node.node_clock import NodeClock
from aux.node.roles import Roles
from aux.replication.fill import Filler
from aux.replication.primary import Copy, Primary
from aux.replication.replica import Replica
from aux.replication.sender import Peer
from aux.server.bulk_commands import BulkCommands, bare_values
from master.control.observer import Observer
from master.control.planning.repair import Repair
from master.fastpath.connection import MAX_PIPELINE, Connection
from ringmaster.cluster.lease import LeaseKeeper
from ringmaster.errors import LinkBroken
from ringmaster.protocol.write_options import Status
from ringmaster.routing.outcomes import RETRY
from tests.sim.copy_mutants import COPY_MUTANTS
from tests.sim.fill_mutants import FILL_MUTANTS
from tests.sim.loop import NodeLoop
from tests.sim.mutation import Mutant, Mutants
from tests.sim.snapshot_mutants import SNAPSHOT_MUTANTS
from tests.sim.tag_mutants import TAG_MUTANTS

RULE_MUTANTS = mutant = Mutants()


@mutant
def pipelines_reordered() -> Iterator[None]:
    """R1: a request of a connection begins before the write in front of it is answered."""

    def is_full(connection: Connection) -> bool:
        return len(connection.waiting) >= MAX_PIPELINE or connection.paused

    begin_fast = Connection._begin_fast

    def begin(connection: Connection, data: bytes, at: int, end: int, now: float) -> int:
        waiting, connection.waiting = connection.waiting, deque()
        try:
            return begin_fast(connection, data, at, end, now)
        finally:
            waiting.extend(connection.waiting)
            connection.waiting = waiting

    with (
        patch.object(Connection, "_is_full", is_full),
        patch.object(Connection, "_begin_fast", begin),
    ):
        yield


@mutant
def fencing_off() -> Iterator[None]:
    """R1: a node serves on although its lease has lapsed."""

    def hold(keeper: LeaseKeeper, _sent: float) -> None:
        keeper.held_until = float("inf")

    with patch.object(LeaseKeeper, "_hold", hold):
        yield


@mutant
def lease_by_cached_time() -> Iterator[None]:
    """R1: the lease is checked by the time at which the turn of the loop began."""
    tick, boottime = NodeLoop.tick, NodeLoop.boottime
    cached: dict[NodeLoop, float] = {}

    def cached_tick(loop: NodeLoop) -> None:
        if not loop._ready and loop.frozen_until <= loop.hub.now:
            cached[loop] = loop.boottime_at(loop.hub.now)
        tick(loop)

    def cached_boottime(loop: NodeLoop) -> float:
        now = boottime(loop)
        return cached.get(loop, now) if loop.name.startswith("a") else now

    with (
        patch.object(NodeLoop, "tick", cached_tick),
        patch.object(NodeLoop, "boottime", cached_boottime),
    ):
        yield


@mutant
def lease_trusted_too_long() -> Iterator[None]:
    """R2: a renewal is trusted for longer than the TTL after which it is revoked."""
    with patch.object(ringmaster.cluster.lease, "TRUST_S", 2.6):
        yield


@mutant
def lease_trusted_from_the_reply() -> Iterator[None]:
    """R2: a renewal is trusted from when its reply came, not from when it was sent."""
    hold = LeaseKeeper._hold

    def late(keeper: LeaseKeeper, _sent: float) -> None:
        hold(keeper, keeper._clock.boottime())

    with patch.object(LeaseKeeper, "_hold", late):
        yield


@mutant
def expiry_by_the_wall_clock() -> Iterator[None]:
    """R8: a node takes its host's wall clock for cluster time."""

    def now_ms(clock: NodeClock) -> int:
        return int(clock.wall() * 1000)

    with patch.object(NodeClock, "now_ms", now_ms):
        yield


@mutant
def own_time_imposed() -> Iterator[None]:
    """R8: a process that starts keeps to its own wall clock, and the others hear of that."""

    def take_over(_joining: Any, _heard_ms: int, _known: Any) -> None:
        return None

    with patch.object(ringmaster.cluster.time_agreement._Joining, "_take_over", take_over):
        yield


@mutant
def time_begun_anew() -> Iterator[None]:
    """R8: a process that starts reads its wall clock although others are alive."""
    with patch.object(ringmaster.cluster.time_agreement, "OTHER_BOOT_WAIT_S", 0.0):
        yield


@mutant
def revoked_without_the_number() -> Iterator[None]:
    """R2: a lease is revoked although its number has moved since."""
    fences = master.control.planning.planner._fences

    def blind(*args: Any) -> Any:
        _, revoke, suspend = fences(*args)
        return {}, revoke, suspend

    with patch.object(master.control.planning.planner, "_fences", blind):
        yield


@mutant
def dead_when_disconnected() -> Iterator[None]:
    """R5: a node whose link is down is taken for dead."""
    prove_dead = Observer.prove_dead

    def guess(observer: Observer, view: Any, rows: Any) -> Any:
        found = prove_dead(observer, view, rows)
        for node, info in view.nodes.items():
            if info.up and not observer._probes.is_connected(node):
                found.setdefault(info.incarnation, _NoLock())
        return found

    with patch.object(Observer, "prove_dead", guess):
        yield


class _NoLock:
    identity = (0, 0)

    def release(self) -> None:
        """Nothing was held."""


@mutant
def acknowledged_before_the_replica_has_it() -> Iterator[None]:
    """R3: nobody waits for the replicas."""

    def count(primary: Primary) -> None:
        primary._required = 0

    with patch.object(Primary, "_count_required", count):
        yield


@mutant
def dirty_reads() -> Iterator[None]:
    """R3: reads see writes that are not committed."""
    submit = Primary.submit

    def show(primary: Primary, key: bytes, entry: bytes | None, *args: Any, **more: Any) -> None:
        submit(primary, key, entry, *args, **more)
        if primary.in_overlay(key):
            primary._apply(key, entry)

    with patch.object(Primary, "submit", show):
        yield


@mutant
def dirty_bulk_reads() -> Iterator[None]:
    """R3: the bulk reads of the fast path see writes that are not committed."""
    read = BulkCommands._read

    def show(
        commands: BulkCommands, tokens: Sequence[bytes], keys: Sequence[bytes], *, bare: bool
    ) -> bytes:
        served = commands._served
        if bare and all(token in served for token in tokens):
            found = [served[token].newest(key) for token, key in zip(tokens, keys, strict=True)]
            text = bare_values(found, [*filter(None, found)])
            if text is not None:
                return b"$%d\r\n%b\r\n" % (len(text), text)
        return read(commands, tokens, keys, bare=bare)

    with patch.object(BulkCommands, "_read", show):
        yield


@mutant
def absent_without_waiting() -> Iterator[None]:
    """R3, R8: a reply that rests on an uncommitted entry does not wait for it."""

    def answer(_primary: Primary, _key: bytes, reply: bytes, waiter: Any) -> None:
        waiter.resolve(reply)

    def delete(head: bytes | None, options: Any, moment: Any) -> Any:
        if head is None:
            return aux.storage.write_rules.Outcome(Status.ABSENT, term=moment.term, seq=moment.seq)
        return real(head, options, moment)

    real = aux.storage.write_rules.delete
    with (
        patch.object(Primary, "answer", answer),
        patch.object(aux.storage.write_rules, "delete", delete),
    ):
        yield


@mutant
def gaps_accepted() -> Iterator[None]:
    """R4: a replica takes entries of any session, and with gaps."""
    apply = Replica.apply

    def take(
        replica: Replica, session: int, seq: int, commit: int, key: bytes, entry: bytes | None
    ) -> bool:
        if seq:
            replica.seq = seq - 1
        return apply(replica, replica.session, seq, commit, key, entry)

    with patch.object(Replica, "apply", take):
        yield


@mutant
def served_after_a_restart() -> Iterator[None]:
    """R5: the id owns the data, not the incarnation."""

    def same() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, NodeLoop)
        return loop.name.ljust(16, "0")

    with patch.object(aux.incarnation, "new_incarnation", same):
        yield


@mutant
def promoted_while_filling() -> Iterator[None]:
    """R6: a copy that is being filled counts as in sync."""
    surviving = Repair._surviving

    def more(repair: Repair, number: int, row: Any) -> list[str]:
        filling = [each.node for each in row.filling if repair._verdicts.is_live(each.node)]
        return surviving(repair, number, row) + filling

    with patch.object(Repair, "_surviving", more):
        yield


@mutant
def predecessor_not_awaited() -> Iterator[None]:
    """R6: the successor serves before its predecessor has stopped."""
    adopt = Roles._adopt_as_primary

    def hasty(roles: Roles, number: int, row: Any, primary: Primary | None) -> None:
        alone = tuple(name for name in row.replicas if name != row.awaits)
        adopt(roles, number, msgspec.structs.replace(row, awaits=None, replicas=alone), primary)

    with patch.object(Roles, "_adopt_as_primary", hasty):
        yield


@mutant
def promoted_without_merging() -> Iterator[None]:
    """R6: the new primary does not restate what other replicas may have."""

    def nothing(_primary: Primary, _keys: Any) -> None:
        return None

    with patch.object(Primary, "restate", nothing):
        yield


@mutant
def filled_from_committed_state() -> Iterator[None]:
    """R7: a fill leaves out writes that are not committed yet."""
    send_chunk = Filler._send_chunk

    def committed(filler: Filler, copy: Copy, keys: Any) -> Any:
        with patch.object(Primary, "newest", lambda primary, key: primary.data.entries.get(key)):
            return send_chunk(filler, copy, keys)

    with patch.object(Filler, "_send_chunk", committed):
        yield


@mutant
def caught_up_too_early() -> Iterator[None]:
    """R7: a filling copy is taken for caught up before the scan has arrived."""
    start = Filler.start_fill

    def early(filler: Filler, copy: Copy) -> None:
        start(filler, copy)
        copy.primary.require(copy)
        copy.in_sync_from = 0

    async def slow(_filler: Filler, _node: str) -> None:
        await asyncio.sleep(1.0)

    with patch.object(Filler, "start_fill", early), patch.object(Filler, "_take_turn", slow):
        yield


@mutant
def evicted_outside_the_fifo() -> Iterator[None]:
    """R8: an eviction is not told to the replicas."""

    def evict(primary: Primary, key: bytes) -> bool:
        if primary.in_overlay(key):
            return False
        primary._store.remove(primary.data, key)
        return True

    with patch.object(Primary, "evict", evict):
        yield


@mutant
def replica_expires_by_itself() -> Iterator[None]:
    """R8: a replica drops what its own primary has not removed."""
    apply = Replica.apply

    def take(replica: Replica, *args: Any) -> bool:
        taken = apply(replica, *args)
        if taken and len(replica.data.entries) > 3:
            replica.store.remove(replica.data, next(iter(replica.data.entries)))
        return taken

    with patch.object(Replica, "apply", take):
        yield


@mutant
def unknown_writes_retried() -> Iterator[None]:
    """R9: a write whose connection broke is sent again."""
    outcome = ringmaster.routing.router.write_outcome

    def again(reply: Any) -> object:
        return RETRY if isinstance(reply, LinkBroken) else outcome(reply)

    with patch.object(ringmaster.routing.router, "write_outcome", again):
        yield


@mutant
def resumed_past_what_it_lacks() -> Iterator[None]:
    """R4: after a reset the primary goes on with a replica that lacks entries."""
    resume = Peer._resume

    def blind(peer: Peer, copy: Copy, term: int, _seq: int, keys: list[Any]) -> None:
        copy.primary.committed, kept = 0, copy.primary.committed
        try:
            resume(peer, copy, term, copy.primary.seq, keys)
        finally:
            copy.primary.committed = max(kept, copy.primary.committed)

    with patch.object(Peer, "_resume", blind):
        yield


@mutant
def weights_ignored() -> Iterator[None]:
    """Rebalance: what is registered after a node has joined is not looked at."""

    def old(seen: Any, node: str) -> Any:
        return seen.view.nodes.get(node) or seen.nodes[node]

    with (
        patch.object(master.control.planning.planner, "member_info", old),
        patch.object(master.control.planning.target, "member_info", old),
    ):
        yield


MUTANTS: Mapping[str, Mutant] = {
    **RULE_MUTANTS,
    **SNAPSHOT_MUTANTS,
    **TAG_MUTANTS,
    **FILL_MUTANTS,
    **COPY_MUTANTS,
}
"""All of them."""
