"""Invalidations of tags: one command for each node, with all its partitions in it (R11)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ringmaster.errors import DeadlineExceeded, LinkFull, PeerError, RingmasterError
from ringmaster.net.link import Link
from ringmaster.protocol.resp import Reply, encode
from ringmaster.routing.outcomes import RETRY, write_outcome
from ringmaster.routing.pending import MOVED, PendingRequest
from ringmaster.routing.scatter_gather import (
    NO_PRIMARY,
    Gather,
    awaitable_gather,
    completed_within,
)
from ringmaster.routing.table import Route, Table


class TokenBatch(PendingRequest):
    """One `RM.UNTAG`; only its first reply counts. The gather gets True for each partition in which it is done."""

    __slots__ = ("_gather", "indexes", "routes")

    def __init__(self, gather: Gather, indexes: Sequence[int], routes: Sequence[Route]) -> None:
        self._gather: Gather | None = gather
        self.route = None
        self.indexes = indexes
        self.routes = routes

    def replied(self, reply: Reply) -> None:
        gather, self._gather = self._gather, None
        if gather is None:
            return
        refused = frozenset(reply) if isinstance(reply, list) else frozenset()
        for index, route in zip(self.indexes, self.routes, strict=True):
            if not isinstance(reply, list):
                gather.replies[index] = reply
            else:
                gather.replies[index] = MOVED if route.token in refused else True
        gather.arrived(len(self.indexes))

    def rerouted(self, table: Table) -> None:
        """If one partition moved, all are asked again: repeating is harmless."""
        for route in self.routes:
            if table[route.partition] is not route:
                self.replied(MOVED)
                return


def invalidation_outcome(reply: Reply) -> object:
    """True, a final refusal, or `RETRY`: it does no harm to repeat what may have been done."""
    if reply is True:
        return True
    if isinstance(reply, PeerError) and reply.code != "UNKNOWN":
        return write_outcome(reply)
    return write_outcome(reply) if isinstance(reply, LinkFull) else RETRY


async def gather_invalidations(
    table: Table, partitions: Sequence[int], tags: Sequence[bytes], within_s: float
) -> list[Reply]:
    """True or an error for each of `partitions`."""
    gather, done = awaitable_gather(len(partitions))
    by_link: defaultdict[Link, tuple[list[int], list[Route]]] = defaultdict(lambda: ([], []))
    unrouted = 0
    for index, partition in enumerate(partitions):
        route = table[partition]
        if route is None:
            gather.replies[index] = NO_PRIMARY
            unrouted += 1
        else:
            indexes, routes = by_link[route.link]
            indexes.append(index)
            routes.append(route)
    batches: list[TokenBatch] = []
    for link, (indexes, routes) in by_link.items():
        batch = TokenBatch(gather, indexes, routes)
        batches.append(batch)
        tokens = b"\n".join([route.token for route in routes])
        link.ask(encode(b"RM.UNTAG", tokens, *tags), batch)
    if unrouted:
        gather.arrived(unrouted)
    return await completed_within(gather, done, batches, within_s)


def failure_of(outcomes: Sequence[object]) -> RingmasterError | None:
    """Why not all partitions are done, None if they are."""
    for outcome in outcomes:
        if isinstance(outcome, RingmasterError):
            return outcome
    return None if all(outcome is True for outcome in outcomes) else DeadlineExceeded("no outcome")
