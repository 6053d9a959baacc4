"""From the reads of a sample to the misses of all: estimates that are steadied by what is known of all reads.

The sample is a number of groups of keys, chosen by hash. Where the sampled keys miss more than the node's keys do on the whole,
the misses of a model are too many as well: by how much, the groups tell (a regression estimator; Cochran, "Sampling Techniques",
ch. 7, over random groups; Wolter, "Introduction to Variance Estimation", ch. 2).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Final

GROUPS: Final = 32
_MOST_SLOPE: Final = 1.5


class Counts:
    """Of one sample and one span of time, by group, each read weighed by how many it stands for."""

    __slots__ = ("lru_misses", "misses", "node_misses", "reads")

    def __init__(self) -> None:
        self.reads = array("d", bytes(8 * GROUPS))
        self.node_misses = array("d", bytes(8 * GROUPS))
        self.misses = array("d", bytes(8 * GROUPS))
        self.lru_misses = array("d", bytes(8 * GROUPS))

    def add(self, other: Counts) -> None:
        """And those of `other`."""
        for mine, others in (
            (self.reads, other.reads),
            (self.node_misses, other.node_misses),
            (self.misses, other.misses),
            (self.lru_misses, other.lru_misses),
        ):
            for group in range(GROUPS):
                mine[group] += others[group]


def estimate(
    misses: Sequence[float], node_misses: Sequence[float], reads: int, known_misses: int
) -> tuple[float, float]:
    """The hit ratio of a model in `reads` reads, of which the node itself missed `known_misses`; and its standard error.

    `misses`, `node_misses`: of the model and of the node, in the sample, by group.
    """
    if reads <= 0:
        return 0.0, 0.0
    groups = len(misses)
    mean, known_mean = math.fsum(misses) / groups, math.fsum(node_misses) / groups
    both = math.fsum(
        (each - mean) * (known - known_mean)
        for each, known in zip(misses, node_misses, strict=True)
    )
    square = math.fsum((known - known_mean) ** 2 for known in node_misses)
    slope = min(_MOST_SLOPE, max(0.0, both / square)) if square > 0 else 0.0
    total = math.fsum(misses) + slope * (known_misses - math.fsum(node_misses))
    rest = math.fsum(
        (each - mean - slope * (known - known_mean)) ** 2
        for each, known in zip(misses, node_misses, strict=True)
    )
    error = math.sqrt(rest * groups / (groups - 1)) / reads
    return min(1.0, max(0.0, 1 - total / reads)), error
