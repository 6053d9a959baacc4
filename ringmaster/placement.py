"""Placement: which nodes should hold which partition. Pure; deterministic; the only importer of uhashring.

Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded Loads",
SODA 2018): a partition goes to the first nodes in its hash order that have room. The walk alone cascades when a
bound moves, so a placement that starts from a current one keeps every copy it can and moves only what a bound forces
(`balance.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from uhashring import HashRing
from xxhash import xxh3_64_intdigest

from ringmaster.balance import Balance
from ringmaster.shares import Limits, limits_of

Method = Literal["ring", "rendezvous"]
Row = tuple[str, ...]
HashFunction = Callable[[str], int]
Order = Callable[[int], Iterable[str]]

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
    ignored. Then copies stay where they are unless a bound, a zone or a missing node forces a move: a change of
    membership moves at most 1.1 times what it changes in the shares, plus one for each node. With several zones it
    can be more, since a copy may then only go where no other copy of its partition is.

    The order of `nodes` does not matter. No nodes or no replicas: empty rows. Raises ValueError for a weight <= 0, a
    repeated id, or a `current` of another length.
    """
    members = {node.id: node for node in sorted(nodes, key=lambda node: node.id)}
    _check(nodes, members, partitions, current)
    copies = min(replicas, len(members))
    if copies <= 0:
        return [()] * partitions
    limits = limits_of(
        {node.id: (node.weight, node.zone) for node in members.values()}, partitions, copies
    )
    order = _orders(method, members, hash_function)
    balance = Balance(limits, partial(_affinity, hash_function))
    if current is None:
        for partition in range(partitions):
            balance.rows.append([])
            _walk(balance, limits, order(partition), partition)
    else:
        balance.adopt(current)
        balance.fill_holes(order)
    balance.level_copies()
    balance.level_primaries()
    return [tuple(row) for row in balance.rows]


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


def _walk(balance: Balance, limits: Limits, order: Iterable[str], partition: int) -> None:
    """Bounded loads: the first node in order with room for a primary, then the next ones with room for a copy."""
    walk = list(order)
    primary = next((node for node in walk if balance.has_room_for_primary(node)), walk[0])
    for node in [primary, *walk]:
        if len(balance.rows[partition]) == limits.copies:
            return
        if balance.has_room(node) and balance.may_add(partition, node):
            balance.add(partition, node)


def _orders(
    method: Method, members: Mapping[str, PlacementNode], hash_function: HashFunction
) -> Order:
    if method == "ring":
        return _ring_order(members, hash_function)
    return partial(_rendezvous_order, members, hash_function)


def _ring_order(members: Mapping[str, PlacementNode], hash_function: HashFunction) -> Order:
    """Clockwise from the partition's point. Where points of two nodes coincide, the smaller id has the point.

    uhashring lets the last writer of a point keep it, hence the reversed order. A node that lost all its points
    comes last, by id.
    """
    points = {
        node.id: {
            "vnodes": max(1, min(_MOST_POINTS, round(POINTS_PER_NODE * node.weight))),
            "weight": 1,
        }
        for node in sorted(members.values(), key=lambda node: node.id, reverse=True)
    }
    ring = HashRing(points, hash_fn=hash_function)

    def order(partition: int) -> Iterator[str]:
        seen = set()
        for node in ring.iterate_nodes(str(partition)):
            seen.add(node)
            yield node
        yield from (node for node in members if node not in seen)

    return order


def _rendezvous_order(
    members: Mapping[str, PlacementNode], hash_function: HashFunction, partition: int
) -> list[str]:
    """Weighted highest random weight (Schindelhauer and Schomaker 2005) as a race: the first to arrive, ties by id."""

    def arrival(node: str) -> tuple[float, str]:
        # 52 bits, so that the fraction is exact and never 1.
        fraction = ((_affinity(hash_function, node, partition) % 2**64 >> 12) + 0.5) / 2**52
        return -math.log1p(-fraction) / members[node].weight, node

    return sorted(members, key=arrival)


def _affinity(hash_function: HashFunction, node: str, partition: int) -> int:
    """Smaller = the partition is rather one for `node`."""
    return hash_function(f"{node}/{partition}")
