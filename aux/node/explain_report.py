"""What this node knows of a key that is not there, and whose entries it evicted for whose writes: pure readings, for masters."""

from __future__ import annotations

from typing import Final

from aux.node.node import Node
from aux.storage import removals
from aux.storage.expiry import is_expired
from aux.storage.partition_data import PartitionData
from aux.storage.removals import end_of_life_ms
from ringmaster.cluster import explanation
from ringmaster.cluster.evictions import EvictionCount, NodeEvictions
from ringmaster.cluster.explanation import NodeMemory, Removal
from ringmaster.protocol.entry import unnamed_header
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.tag_records import killing_tag, record_key

_REASONS: Final = {
    removals.EXPIRED: explanation.EXPIRED,
    removals.EVICTED: explanation.EVICTED,
    removals.EVICTED_FOR_COPY: explanation.EVICTED_FOR_COPY,
    removals.DELETED: explanation.DELETED,
    removals.DELETED_BY_REDIS: explanation.DELETED_BY_REDIS,
    removals.INVALIDATED: explanation.INVALIDATED,
    removals.REMOVED: explanation.REMOVED,
}


def memory_of(node: Node, key: bytes) -> NodeMemory:
    """What it remembers of `key`, whatever it is to its partition."""
    log = node.store.removals
    found = [
        Removal(_REASONS[each.reason], each.at_ms, _text_of(each.label))
        for each in log.find(key)
        if each.reason in _REASONS
    ]
    data = node.store.get(partition_of(key, node.options.partitions))
    if data is None:
        return NodeMemory(id=node.id, removals=found, remembers_ms=log.remembers_ms(key))
    origin = data.origin
    return NodeMemory(
        id=node.id,
        dead=_dead(data, key, node.clock.now_ms()),
        removals=found,
        remembers_ms=log.remembers_ms(key),
        since_ms=origin.since_ms,
        is_new=origin.is_new,
        lost_ms=origin.lost_ms,
        snapshot_ms=origin.snapshot_ms,
        is_whole=origin.is_whole,
    )


def evictions_of(node: Node, most: int) -> NodeEvictions:
    """Up to `most` pairs of prefixes, the most frequent first."""
    tally = node.eviction.tally
    rows = [
        EvictionCount(_text_of(prefix), _text_of(cause) if cause else None, count)
        for prefix, cause, count in tally.top(most)
    ]
    return NodeEvictions(node.store.removals.since_ms, tally.evictions, rows)


def _dead(data: PartitionData, key: bytes, now_ms: int) -> Removal | None:
    """Of an entry that is still there although it is dead: of what it died."""
    entry = data.entries.get(key)
    if entry is None:
        return None
    tag = killing_tag(entry, data.tags) if data.tags else None
    if tag is not None:
        _, _, _, written_s, _ = unnamed_header(data.tags[record_key(tag)])
        return Removal(explanation.INVALIDATED, written_s * 1000, tag)
    if is_expired(entry, now_ms):
        return Removal(explanation.EXPIRED, end_of_life_ms(entry))
    return None


def _text_of(label: bytes) -> str:
    """Prefixes are cut off anywhere, and what came past the masters may be no text at all."""
    return label.decode(errors="replace")
