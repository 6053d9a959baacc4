"""Invalidations of tags: one command for each node, with all its partitions in it (R11).

Which partitions are whose changes with the view only, so the commands' long part is made once for each view.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from ringmaster.errors import LinkFull, PeerError, RingmasterError
from ringmaster.net.link import Link
from ringmaster.protocol.resp import Reply, encode
from ringmaster.routing.outcomes import RETRY, write_outcome
from ringmaster.routing.pending import PendingRequest
from ringmaster.routing.scatter_gather import Gather, awaitable_gather, completed_within
from ringmaster.routing.table import Route, Table

DONE: Final[list[int]] = []


class NodePart:
    """The partitions of one node. `tokens`: as `RM.UNTAG` takes them."""

    __slots__ = ("link", "routes", "tokens")

    def __init__(self, link: Link, routes: list[Route]) -> None:
        self.link = link
        self.routes = routes
        self.tokens = b"\n".join([route.token for route in routes])


class Plan:
    """Whom to ask about some partitions; those that are `unrouted` have no primary just now."""

    __slots__ = ("parts", "unrouted")

    def __init__(self, table: Table, partitions: Iterable[int]) -> None:
        by_link: defaultdict[Link, list[Route]] = defaultdict(list)
        self.unrouted: list[int] = []
        for partition in partitions:
            route = table[partition]
            if route is None:
                self.unrouted.append(partition)
            else:
                by_link[route.link].append(route)
        self.parts = [NodePart(link, routes) for link, routes in by_link.items()]


class NodeBatch(PendingRequest):
    """One `RM.UNTAG`; only its first reply counts.

    It is not rerouted: a node that loses some partitions says so when it answers for the others, which must not be asked again (adr/0017).
    """

    __slots__ = ("_gather", "index", "part")

    def __init__(self, gather: Gather, index: int, part: NodePart) -> None:
        self._gather: Gather | None = gather
        self.route = None
        self.index = index
        self.part = part

    def replied(self, reply: Reply) -> None:
        gather, self._gather = self._gather, None
        if gather is not None:
            gather.replies[self.index] = reply
            gather.arrived(1)


async def ask_nodes(plan: Plan, tags: Sequence[bytes], within_s: float) -> list[Reply]:
    """What each part of `plan` replied, or the error that came instead."""
    if not plan.parts:
        return []
    gather, done = awaitable_gather(len(plan.parts))
    batches: list[NodeBatch] = []
    for index, part in enumerate(plan.parts):
        batch = NodeBatch(gather, index, part)
        batches.append(batch)
        part.link.ask(encode(b"RM.UNTAG", part.tokens, *tags), batch)
    return await completed_within(gather, done, batches, within_s)


def left_over(part: NodePart, reply: Reply) -> list[int]:
    """The partitions of `part` that are to be asked about again after `reply`: those of which it is not known whether it was done."""
    if not isinstance(reply, list):
        return [route.partition for route in part.routes]
    if not reply:
        return DONE
    refused = frozenset(reply)
    return [route.partition for route in part.routes if route.token in refused]


def refusal_in(replies: Iterable[Reply]) -> RingmasterError | None:
    """The first reply after which asking again is of no use."""
    for reply in replies:
        if isinstance(reply, LinkFull) or (
            isinstance(reply, PeerError) and reply.code != "UNKNOWN"
        ):
            outcome = write_outcome(reply)
            if outcome is not RETRY and isinstance(outcome, RingmasterError):
                return outcome
    return None
