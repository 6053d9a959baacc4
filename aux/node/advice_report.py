"""What a node's advisor and its counts of keys say, for masters: pure readings of their state."""

from __future__ import annotations

from aux.node.node import Node
from ringmaster.cluster.advice import NodeAdvice, NodeEstimate


def advice_of(node: Node) -> NodeAdvice:
    """What its cache would hit with other sizes and policies."""
    advisor = node.advisor
    reads, misses = advisor.counted()
    return NodeAdvice(
        id=node.id,
        policy=node.store.policy.name,
        nodes=advisor.nodes,
        seconds=advisor.window_s,
        reads=reads,
        misses=misses,
        sampled=advisor.sampled(),
        entry_bytes=advisor.entry_bytes,
        busy_ratio=advisor.busy_ratio,
        estimates=[
            NodeEstimate(
                each.policy, each.memory, each.ratio, each.error, each.reads, each.sampled,
                each.filled, each.is_enough,
            )
            for each in advisor.estimates()
        ],
    )  # fmt: skip
