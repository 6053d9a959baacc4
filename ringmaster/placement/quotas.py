"""Quotas: how many copies and primaries each node may have, by weight, within what a node and a zone can hold. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SLACK = 0.05
"""How far above and below its share a node may be."""

_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Quota:
    """What one node may hold: never more than `high`; at least `low` where that is possible."""

    share: float
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Quotas:
    """Quotas by node id: `held` for copies, `primaries` for primaries. `copies`: of each partition.

    `zones`: each node's zone, which holds at most `per_zone` copies of a partition.
    """

    copies: int
    per_zone: int
    zones: Mapping[str, str]
    held: Mapping[str, Quota]
    primaries: Mapping[str, Quota]


def quotas_of(members: Mapping[str, tuple[float, str]], partitions: int, copies: int) -> Quotas:
    """Quotas for `members` (id -> weight, zone), in the order of their ids. `copies` <= number of members."""
    zones: dict[str, list[str]] = {}
    for node, (_, zone) in members.items():
        zones.setdefault(zone, []).append(node)
    per_zone = next(
        n for n in range(1, copies + 1) if sum(min(n, len(ids)) for ids in zones.values()) >= copies
    )
    weights = {node: weight for node, (weight, _) in members.items()}
    held = _shares(
        weights, list(zones.values()), copies * partitions, partitions, per_zone * partitions
    )
    total = sum(weights.values())
    return Quotas(
        copies=copies,
        per_zone=per_zone,
        zones={node: zone for node, (_, zone) in members.items()},
        held={node: _quota(share, partitions) for node, share in held.items()},
        primaries={
            node: _quota(partitions * weight / total, partitions)
            for node, weight in weights.items()
        },
    )


def _quota(share: float, most: int) -> Quota:
    high = max(math.ceil(share - _EPSILON), math.floor(share * (1 + SLACK) + _EPSILON))
    low = min(math.floor(share + _EPSILON), math.ceil(share * (1 - SLACK) - _EPSILON))
    return Quota(share, low, min(high, most))


def _shares(
    weights: Mapping[str, float],
    zones: Sequence[Sequence[str]],
    total: float,
    per_node: int,
    per_zone: int,
) -> dict[str, float]:
    """`total` divided by weight, but at most `per_node` each and `per_zone` in each zone."""
    shares: dict[str, float] = {}
    open_zones = list(zones)
    while open_zones:
        rest = total - sum(shares.values())
        trial = _capped({node: weights[node] for ids in open_zones for node in ids}, rest, per_node)
        full = [ids for ids in open_zones if sum(trial[node] for node in ids) > per_zone + _EPSILON]
        if not full:
            return shares | trial
        for ids in full:
            shares |= _capped({node: weights[node] for node in ids}, per_zone, per_node)
            open_zones.remove(ids)
    return shares


def _capped(weights: Mapping[str, float], total: float, cap: float) -> dict[str, float]:
    """`total` divided by weight, but at most `cap` each."""
    shares: dict[str, float] = {}
    rest = dict(weights)
    while rest:
        unit = (total - cap * len(shares)) / sum(rest.values())
        full = [node for node, weight in rest.items() if weight * unit >= cap]
        if not full:
            return shares | {node: weight * unit for node, weight in rest.items()}
        for node in full:
            shares[node] = cap
            del rest[node]
    return shares
