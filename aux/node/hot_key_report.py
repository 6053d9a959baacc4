"""Which keys of a node are read most, for masters: a pure reading of its counts."""

from __future__ import annotations

from aux.node.node import Node
from ringmaster.cluster.hot_keys import HotKey
from ringmaster.protocol.hashing import partition_of


def hot_keys_of(node: Node, most: int) -> list[HotKey]:
    """Up to `most` of the keys that it serves, the most often read first."""
    grants = node.grants
    counted_s = grants.counted_s
    found: list[HotKey] = []
    for key, count in grants.reads.top(len(grants.reads)):
        if len(found) == most:
            break
        number = partition_of(key, node.options.partitions)
        primary = node.roles.primaries.get(number)
        # It may have moved meanwhile, and what came past the masters may be no text.
        name = _text_of(key)
        if primary is None or not primary.serving or name is None:
            continue
        grant = primary.held.get(key)
        copies = 0 if grant is None else len(grant.holders)
        found.append(HotKey(name, round(count / counted_s, 2), node.id, number, copies))
    return found


def _text_of(key: bytes) -> str | None:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None
