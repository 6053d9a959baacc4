"""Placement: which nodes should hold which partition. Pure and deterministic; the only importer of uhashring.

Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded Loads",
SODA 2018): a partition goes to the first nodes in its hash order that have room. The walk alone cascades when a
bound moves, so a placement that starts from a current one keeps every copy it can and moves only what a bound forces
(`min_cost_flow.py`, `leader_balance.py`; adr/0009).
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import log1p
from typing import Literal

from uhashring import HashRing
from xxhash import xxh3_64_intdigest

from ringmaster.placement.leader_balance import LeaderBalance
from ringmaster.placement.min_cost_flow import MinCostFlow
from ringmaster.placement.quotas import quotas_of

Method = Literal["ring", "rendezvous"]
Row = tuple[str, ...]
HashFunction = Callable[[str], int]
Order = Callable[[int], Iterable[int]]

POINTS_PER_NODE = 64
"""Points on the ring of a node of weight 1. The bound does the balancing, so few are enough."""

_MOST_POINTS = 4096


@dataclass(frozen=True, slots=True)
class PlacementNode:
    """A node that may hold copies. `weight` > 0 scales its share; copies avoid sharing a `zone`."""

    id: str
    weight: float = 1.0
    zone: str = ""


def xxh3(text: str) -> int:
    """The default hash: 64 bits."""
    return xxh3_64_intdigest(text.encode())


def place(
    nodes: Sequence[PlacementNode],
    partitions: int,
    replicas: int,
    *,
    method: Method = "ring",
    current: Sequence[Row] | None = None,
    hash_function: HashFunction = xxh3,
) -> list[Row]:
    """The desired copies of each partition, the primary first: `min(replicas, len(nodes))` different nodes each.

    Bounds. A node's *share* is what its weight entitles it to: of the primaries `partitions * weight / sum of weights`;
    of the copies likewise, except that a node holds each partition once and a zone holds at most L copies of each,
    L being the smallest number that the zones' sizes allow (1 when there are at least `replicas` zones); what is cut
    off goes to the others by weight. A node holds at most `max(ceil(share), floor(1.05 * share))` copies: at most
    1.05 times its share wherever a whole number lies between the two, and never a whole partition above it. The same
    bound holds for primaries, unless the copies make that impossible (a handful of partitions per node).

    `current` lists the copies as they are, best first (primary, in sync, filling); ids that are not in `nodes` are
    ignored. A *move* is a copy in the result that `current` does not list. What a change of membership *forces* is the
    fewest moves of any table with `min(replicas, len(nodes))` copies of each partition on different nodes, at most L of
    them in one zone, and between `low` and `high` copies on each node (`quotas.py`; `low` is 0.95 times the share, or the
    whole number below it, so that who joins is given something). The result has exactly that many, unless the primaries
    cannot be levelled by changes of role alone, which takes a swap of two copies; no such case is known (the property
    tests look for one). So the same members twice move nothing, and all depends on `current` and `nodes` alone.

    The order of `nodes` does not matter. No nodes or no replicas: empty rows. Raises ValueError for a weight <= 0, a
    repeated id, or a `current` of another length.
    """
    members = {node.id: node for node in sorted(nodes, key=lambda node: node.id)}
    _check(nodes, members, partitions, current)
    copies = min(replicas, len(members))
    if copies <= 0:
        return [()] * partitions
    quotas = quotas_of(
        {node.id: (node.weight, node.zone) for node in members.values()}, partitions, copies
    )
    order = _orders(method, tuple(members.values()), hash_function)
    flow = MinCostFlow(quotas)
    primaries = [quotas.primaries[node] for node in flow.ids]
    if current is None:
        flow.begin(partitions, order, [quota.high for quota in primaries])
    else:
        flow.adopt(current)
    flow.fill(order)
    flow.level()
    LeaderBalance(flow, primaries).level()
    return _named(flow)


def _named(flow: MinCostFlow) -> list[Row]:
    ids = flow.ids
    known: dict[tuple[int, ...], Row] = {}
    table = []
    for row in map(tuple, flow.rows):
        named = known.get(row)
        if named is None:
            named = known[row] = tuple(ids[node] for node in row)
        table.append(named)
    return table


def _check(
    nodes: Sequence[PlacementNode],
    members: Mapping[str, PlacementNode],
    partitions: int,
    current: Sequence[Row] | None,
) -> None:
    if len(members) != len(nodes):
        raise ValueError("two nodes with one id")
    if any(not node.weight > 0 or math.isinf(node.weight) for node in nodes):
        raise ValueError("a weight must be a finite number above 0")
    if current is not None and len(current) != partitions:
        raise ValueError(f"current has {len(current)} rows, not {partitions}")


def _orders(method: Method, members: Sequence[PlacementNode], hash_function: HashFunction) -> Order:
    if method == "ring":
        return _ring_order(members, hash_function)
    return partial(_rendezvous_order, members, hash_function)


def _ring_order(members: Sequence[PlacementNode], hash_function: HashFunction) -> Order:
    """Clockwise from the partition's point. Where points of two nodes coincide, the smaller id has the point.

    uhashring lets the last writer of a point keep it, hence the reversed order. A node that lost all its points
    comes last, by id. Its own walk is not used: from each point the order is the same for every partition.
    """
    points = HashRing(
        {
            node.id: {
                "vnodes": max(1, min(_MOST_POINTS, round(POINTS_PER_NODE * node.weight))),
                "weight": 1,
            }
            for node in reversed(members)
        },
        hash_fn=hash_function,
    ).get_points()
    numbers = {node.id: number for number, node in enumerate(members)}
    ring = [point for point, _ in points]
    around = [numbers[node] for _, node in points] * 2
    near = 8 * len(members)  # almost always enough points to meet every node
    known: dict[int, tuple[int, ...]] = {}

    def order(partition: int) -> tuple[int, ...]:
        start = bisect(ring, hash_function(str(partition))) % len(ring)
        found = known.get(start)
        if found is None:
            clockwise = dict.fromkeys(around[start : start + near])
            if len(clockwise) < len(members):
                clockwise = dict.fromkeys(
                    chain(around[start : start + len(ring)], numbers.values())
                )
            found = known[start] = tuple(clockwise)
        return found

    return order


def _rendezvous_order(
    members: Sequence[PlacementNode], hash_function: HashFunction, partition: int
) -> list[int]:
    """Weighted highest random weight (Schindelhauer and Schomaker 2005) as a race: the first to arrive, ties by id."""
    arrivals = [
        # 52 bits, so that the fraction is exact and never 1.
        -log1p(-((hash_function(f"{node.id}/{partition}") % 2**64 >> 12) + 0.5) / 2**52)
        / node.weight
        for node in members
    ]
    return sorted(range(len(members)), key=arrivals.__getitem__)
