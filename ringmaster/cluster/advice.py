"""What nodes say of other sizes and policies of their caches, and what that is for the cluster. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ringmaster.runtime.decoding import json_decoder

_SIZES: Final = (0.5, 1, 2, 4)

LEAST_READS: Final = 2000
"""Reads of sampled keys in the cluster below which nothing is said."""


class NodeEstimate(msgspec.Struct, frozen=True, array_like=True):
    """What one policy would hit with `memory` times as much for entries, in `reads` reads. `error`: the standard error.

    `filled`: how much of that memory the model uses, 0 to 1. `sampled`: reads that it saw. `is_enough`: it models enough
    keys.
    """

    policy: str
    memory: float
    hit_ratio: float
    error: float
    reads: int
    sampled: int
    filled: float
    is_enough: bool


class NodeAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """The reply to `RM.ADVICE`.

    `nodes`: that the node knows to be up. `seconds`: how long it has counted, `reads` of which `misses` missed. `sampled`: reads of
    sampled keys. `entry_bytes`: what its entries may cost. `busy_ratio`: of a processor's time, what the advice took.
    """

    id: str
    policy: str
    nodes: int
    seconds: float
    reads: int
    misses: int
    sampled: int
    entry_bytes: int
    busy_ratio: float
    estimates: list[NodeEstimate]


class Prospect(msgspec.Struct, frozen=True, kw_only=True):
    """One choice. `hit_ratio` None: too few requests yet. `entry_bytes`: of all nodes, what entries could cost.

    `gain`: of the hit ratio, against the policy and memory there are. `error`: the standard error. `filled`: of that memory, how much
    would be in use so far: below 1 it would hit more in the long run, or all there is fits.
    """

    policy: str
    memory: float
    node_count: int
    entry_bytes: int
    hit_ratio: float | None
    gain: float | None
    error: float | None
    filled: float


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /cluster/advice`. `hit_ratio`: measured, of the reads in the last `window_s` seconds. `enough`: whether anything can be said; else `reason`.

    `unreachable`: nodes that did not answer. `sizes`: the policy there is, with other memory of each node. `scaling`: with one
    node less and one more. `policies`: with the memory there is.
    """

    policy: str
    window_s: float
    reads: int
    sampled: int
    hit_ratio: float | None
    entry_bytes: int
    busy_ratio: float
    enough: bool
    reason: str | None
    unreachable: list[str]
    sizes: list[Prospect]
    scaling: list[Prospect]
    policies: list[Prospect]


encode_advice = msgspec.json.Encoder().encode
decode_advice = json_decoder(NodeAdvice)


def combine(answers: Mapping[str, NodeAdvice | None], policy: str) -> Advice:
    """`answers` by node, None from those that gave none. `policy`: what the view says; nodes that are not there yet are left out."""
    found = [each for each in answers.values() if each is not None and each.policy == policy]
    count = max((each.nodes for each in found), default=0)
    found = [each for each in found if each.nodes == count]
    unreachable = sorted(node for node, each in answers.items() if each is None)
    reads, misses = sum(each.reads for each in found), sum(each.misses for each in found)
    sampled = sum(each.sampled for each in found)
    measured = 1 - misses / reads if reads else None
    reason = _reason(answers, found, reads, sampled)
    prospects = _prospects(found, measured if reason is None else None)
    fewer, more = (count - 1) / count if count > 1 else 0.0, (count + 1) / max(1, count)
    return Advice(
        policy=policy,
        window_s=round(min((each.seconds for each in found), default=0.0), 1),
        reads=reads,
        sampled=sampled,
        hit_ratio=None if measured is None else round(measured, 4),
        entry_bytes=sum(each.entry_bytes for each in found),
        busy_ratio=round(max((each.busy_ratio for each in found), default=0.0), 5),
        enough=reason is None,
        reason=reason,
        unreachable=unreachable,
        sizes=[each for each in prospects if each.policy == policy and each.memory in _SIZES],
        scaling=[
            msgspec.structs.replace(each, node_count=count + change, memory=round(share, 4))
            for each in prospects
            for change, share in ((-1, fewer), (1, more))
            if each.policy == policy and each.memory == share
        ],
        policies=[each for each in prospects if each.memory == 1],
    )


def _reason(
    answers: Mapping[str, NodeAdvice | None], found: Sequence[NodeAdvice], reads: int, sampled: int
) -> str | None:
    """Why nothing can be said; None if it can."""
    if not found:
        return (
            "no node has answered" if not any(answers.values()) else "the policy has just changed"
        )
    if sampled < LEAST_READS:
        return f"too few requests yet: {sampled} of {reads} reads were of sampled keys, {LEAST_READS} are needed"
    return None


def _prospects(found: Sequence[NodeAdvice], measured: float | None) -> list[Prospect]:
    nodes = len(found)
    choices: dict[tuple[str, float], list[tuple[NodeAdvice, NodeEstimate]]] = {}
    for node in found:
        # A node may model the same twice, as part of one model and by itself: the first is as good.
        seen = set()
        for each in node.estimates:
            choice = each.policy, each.memory
            if choice not in seen:
                seen.add(choice)
                choices.setdefault(choice, []).append((node, each))
    return [
        _prospect(policy, memory, pairs, nodes, measured)
        for (policy, memory), pairs in sorted(choices.items())
    ]


def _prospect(
    policy: str,
    memory: float,
    pairs: Sequence[tuple[NodeAdvice, NodeEstimate]],
    nodes: int,
    measured: float | None,
) -> Prospect:
    # A node without a read has nothing to say, and nothing to spoil.
    asked = [each for _, each in pairs if each.reads]
    reads = sum(each.reads for each in asked)
    known = measured is not None and sum(each.sampled for each in asked) >= LEAST_READS
    known = known and all(each.is_enough or 20 * each.reads < reads for each in asked)
    ratio = error = None
    if known and measured is not None:
        ratio = sum(each.hit_ratio * each.reads for each in asked) / reads
        error = math.sqrt(sum((each.error * each.reads) ** 2 for each in asked)) / reads
    return Prospect(
        policy=policy,
        memory=memory,
        node_count=nodes,
        entry_bytes=int(sum(node.entry_bytes for node, _ in pairs) * memory),
        hit_ratio=None if ratio is None else round(ratio, 4),
        gain=None if ratio is None or measured is None else round(ratio - measured, 4),
        error=None if error is None else round(error, 4),
        filled=round(sum(each.filled for _, each in pairs) / len(pairs), 3),
    )
