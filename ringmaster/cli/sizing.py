"""How much memory a cluster needs for so many entries, or how many nodes: arithmetic alone. docs/sizing.md explains the figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

BESIDE_BYTES: Final = 96 * 2**20
"""What a node takes beside entries: the process, and what it works with."""

USABLE: Final = 0.84
"""Of the rest, what entries can have: the others are buffers, and holes between entries."""

TABLE_BYTES: Final = 96
"""A place in a partition's table, which may have grown, and what is remembered of evicted entries."""

UNEVEN: Final = 1.08
"""Times the average, what the fullest node holds."""

LEAST_NODE_BYTES: Final = 256_000_000
_HEADER: Final = 25
_STEP: Final = 10**6


@dataclass(frozen=True, slots=True)
class Plan:
    """A cluster that holds so many entries, also when `spare` of its `nodes` are gone. Sizes in bytes; `node_bytes` is `--max-memory`."""

    entries: int
    key_bytes: int
    value_bytes: int
    replicas: int
    spare: int
    entry_bytes: int
    total_bytes: int
    nodes: int
    node_bytes: int
    usable_bytes: int


def entry_bytes(key_bytes: int, value_bytes: int) -> int:
    """What one copy of an entry costs: two blocks of memory, its place in a table, and 8 bytes of recency."""
    return _block(key_bytes) + _block(_HEADER + value_bytes) + TABLE_BYTES + 8


def usable_bytes(node_bytes: int) -> int:
    """What a node with that `--max-memory` has for entries, at least; 0 if it is too small for any."""
    return max(0, int((node_bytes - BESIDE_BYTES) * USABLE))


def plan(
    entries: int,
    key_bytes: int,
    value_bytes: int,
    *,
    replicas: int = 2,
    spare: int = 1,
    nodes: int | None = None,
    node_bytes: int | None = None,
) -> Plan:
    """The memory that each of `nodes` needs, or how many nodes of `node_bytes` it takes; exactly one of the two is given.

    Raises `ValueError` if the nodes are too few for the copies, or too small for anything.
    """
    each = entry_bytes(key_bytes, value_bytes)
    total = math.ceil(entries * each * replicas * UNEVEN)
    least = replicas + spare
    if nodes is not None:
        if nodes < least:
            raise ValueError(
                f"{replicas} copies on {nodes} nodes, of which {spare} may be gone, need {least} nodes"
            )
        wanted = total / (nodes - spare) / USABLE + BESIDE_BYTES
        node_bytes = max(LEAST_NODE_BYTES, math.ceil(wanted / _STEP) * _STEP)
    elif node_bytes is not None:
        usable = usable_bytes(node_bytes)
        if node_bytes < LEAST_NODE_BYTES:
            raise ValueError("a node that is to hold something wants 256MB or more")
        nodes = max(least, math.ceil(total / usable) + spare)
    else:
        raise ValueError("give the number of nodes, or the memory of each")
    return Plan(
        entries, key_bytes, value_bytes, replicas, spare, each, total,
        nodes, node_bytes, usable_bytes(node_bytes),
    )  # fmt: skip


def _block(length: int) -> int:
    """What a `bytes` object of `length` takes from glibc's malloc (`aux/storage/memory_accounting.py`)."""
    size = max(32, (length + 33 + 8 + 15) & ~15)
    return (size + 8 + 4095) & ~4095 if size >= 64 * 1024 else size
