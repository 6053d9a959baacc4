"""Why a key is not there: what nodes remember of it, put together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from ringmaster.config.quantities import rfc3339
from ringmaster.runtime.decoding import json_decoder

EXPIRED: Final = "expired"
EVICTED: Final = "evicted"
EVICTED_FOR_COPY: Final = "evicted-for-copy"
DELETED: Final = "deleted"
DELETED_BY_REDIS: Final = "deleted-by-redis"
INVALIDATED: Final = "invalidated"
REMOVED: Final = "removed"
"""By the primary, which told its copies no reason."""

STATES: Final = ("present", "expired", "evicted", "deleted", "invalidated", "lost", "unknown")
"""What may have become of a key."""

SAME_MS: Final = 2_000
"""Within this time, what a copy was told and what its primary knows are about one removal."""

HTTP: Final = "HTTP"
REDIS: Final = "Redis"


class Removal(msgspec.Struct, frozen=True):
    """`reason`: one of the words above. `at_ms`: cluster time. `by`: whose token, tag, node, or prefix of the key that was written."""

    reason: str
    at_ms: int
    by: str = ""


class NodeMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What a node knows of a key that is not there. Times are cluster time in ms, 0: not known, or never.

    `dead`: of what an entry died that is still there. `removals`: of those before, the latest first. `remembers_ms`: no removal since then is forgotten. `since_ms`: it has the partition since then (0:
    it has no copy of it); `is_new`: the partition had never been written before; `lost_ms`: every copy was lost, and came back from
    a snapshot of `snapshot_ms` (0: from none); `is_whole`: with everything that there had been.
    """

    id: str
    dead: Removal | None = None
    removals: list[Removal] = []
    remembers_ms: int = 0
    since_ms: int = 0
    is_new: bool = False
    lost_ms: int = 0
    snapshot_ms: int = 0
    is_whole: bool = False


encode_memory = msgspec.json.Encoder().encode
decode_memory = json_decoder(NodeMemory)


class Explanation(NamedTuple):
    """`state`: one of `STATES`. `at_ms`: since when, 0: not known. `by`: who or what did it, empty: nobody or not known. `detail`: sentences."""

    state: str
    at_ms: int
    by: str
    detail: str


def explain(
    memories: Mapping[str, NodeMemory | None],
    primary: str | None,
    is_shown: Callable[[str], bool],
) -> Explanation:
    """Why the key is not there, by what nodes said (None: nothing). `is_shown`: whether keys with this prefix may be named.

    What happened last counts, whichever node knows of it: partitions move.
    """
    latest = _latest(memories, primary)
    lost = max(
        (each for each in memories.values() if each is not None and each.lost_ms),
        key=lambda each: each.lost_ms,
        default=None,
    )
    silent = sorted(node for node, memory in memories.items() if memory is None)
    asked = f" {', '.join(silent)} did not answer." if silent else ""
    if lost is not None and not lost.is_whole and (latest is None or latest.at_ms < lost.lost_ms):
        return Explanation("lost", lost.lost_ms, "", _loss(lost) + _before(latest) + asked)
    if latest is None:
        return Explanation("unknown", 0, "", _nothing_known(memories, primary) + asked)
    return _told(latest, is_shown, asked)


def _latest(memories: Mapping[str, NodeMemory | None], primary: str | None) -> Removal | None:
    """The last removal that a node knows of, with its reason if anybody knows that.

    What a node noted last is the last that it knows of, whatever its time: times are not exact. So what two nodes noted last
    within `SAME_MS` is taken for one removal, of which the primary knows best, and then whoever knows a reason.
    """
    served = memories.get(primary) if primary is not None else None
    if served is not None and served.dead is not None:
        return served.dead  # of the newest entry that there is
    lasts = {
        node: memory.removals[0] if memory.dead is None else memory.dead
        for node, memory in memories.items()
        if memory is not None and (memory.removals or memory.dead is not None)
    }
    if not lasts:
        return None
    latest = max(lasts.values(), key=lambda each: each.at_ms)
    same = {
        node: each
        for node, each in lasts.items()
        if each.reason != REMOVED and latest.at_ms - each.at_ms <= SAME_MS
    }
    if primary in same:
        return same[primary]
    return max(same.values(), key=lambda each: each.at_ms, default=latest)


def _told(removal: Removal, is_shown: Callable[[str], bool], asked: str) -> Explanation:
    """What one removal says of the key."""
    at_ms, by, reason = removal.at_ms, removal.by, removal.reason
    when = rfc3339(at_ms)
    if reason == EXPIRED:
        return Explanation("expired", at_ms, "", f"Its time to live ended at {when}.")
    if reason in (EVICTED, EVICTED_FOR_COPY):
        named = by if reason == EVICTED and is_shown(by) else ""
        return Explanation(
            "evicted", at_ms, named, f"It was evicted at {when}, {_need(removal, named)}."
        )
    if reason == DELETED:
        who = f"with the token {by}" if by else "by a request over HTTP"
        return Explanation("deleted", at_ms, by or HTTP, f"It was deleted at {when} {who}.")
    if reason == DELETED_BY_REDIS:
        return Explanation("deleted", at_ms, REDIS, f"It was deleted at {when} by a Redis command.")
    if reason == INVALIDATED:
        which = f"the tag {by}" if by else "one of its tags"
        return Explanation(
            "invalidated", at_ms, by, f"It was removed by {when}: {which} was invalidated."
        )
    detail = f"It was removed at {when}, by an eviction or a delete: the node knows that was primary then"
    return Explanation("unknown", at_ms, "", f"{detail}, and none that answered was.{asked}")


def _need(removal: Removal, named: str) -> str:
    """What the room was needed for that an eviction made."""
    if removal.reason == EVICTED_FOR_COPY:
        return f"since its copy was on {removal.by or 'a node'}, which had too little room"
    if named:
        return f"to make room for a write of a key that begins with {named}"
    if removal.by:
        return "to make room for a write of another key"
    return "since the node had less room for entries than before"


def _loss(memory: NodeMemory) -> str:
    when = rfc3339(memory.lost_ms)
    if not memory.snapshot_ms:
        return f"Every copy of its partition was lost, and it came back empty at {when}."
    snapshot = rfc3339(memory.snapshot_ms)
    return (
        f"Every copy of its partition was lost, and it came back at {when} as it had been at {snapshot}: "
        "what was written behind that snapshot is gone."
    )


def _before(latest: Removal | None) -> str:
    if latest is None:
        return ""
    return f" Before that, at {rfc3339(latest.at_ms)}, the key was {_PAST.get(latest.reason, 'removed')}."


_PAST: Final = {
    EXPIRED: "expired",
    EVICTED: "evicted",
    EVICTED_FOR_COPY: "evicted",
    DELETED: "deleted",
    DELETED_BY_REDIS: "deleted",
    INVALIDATED: "invalidated",
}


def _nothing_known(memories: Mapping[str, NodeMemory | None], primary: str | None) -> str:
    known = [each for each in memories.values() if each is not None and each.since_ms]
    memory = memories.get(primary) if primary is not None else None
    if memory is None or not memory.since_ms:
        memory = min(known, key=lambda each: each.since_ms, default=None)
    if memory is None:
        return "No node knows of its partition, so nothing can be said."
    since_ms = max(memory.since_ms, memory.remembers_ms)
    when = rfc3339(since_ms)
    if memory.is_new and memory.remembers_ms <= memory.since_ms:
        return f"It was never written: {memory.id} has its partition since there is one, from {when} on."
    if memory.is_whole and memory.lost_ms:
        return (
            f"It was never written since {when}, when {memory.id} brought its partition back, "
            "and was in none of the snapshots by then."
        )
    why = (
        f"{memory.id} has its partition only since then"
        if memory.since_ms >= memory.remembers_ms
        else f"{memory.id} has forgotten earlier removals"
    )
    return f"It was not written and removed since {when}. What was before is not known: {why}."
