"""Whose entries were evicted for whose writes: what nodes counted, put together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ringmaster.runtime.decoding import json_decoder

MOST_EVICTIONS: Final = 1000
"""Rows in an answer, at most."""


class EvictionCount(msgspec.Struct, frozen=True):
    """`count` keys that begin with `prefix` were evicted for writes of keys that begin with `by`; None: for no write, or not to be told."""

    prefix: str
    by: str | None
    count: int


class NodeEvictions(msgspec.Struct, frozen=True):
    """What one node counted since `since_ms`, in cluster time. `evictions`: all of them."""

    since_ms: int
    evictions: int
    rows: list[EvictionCount]


encode_evictions = msgspec.json.Encoder().encode
decode_evictions = json_decoder(NodeEvictions)


def most_evicted(
    answers: Mapping[str, NodeEvictions | None], most: int, is_shown: Callable[[str], bool]
) -> list[EvictionCount]:
    """The `most` frequent pairs of all `answers` by node (None: it gave none).

    Prefixes of which not all keys may be shown are left out; those of writers are not named.
    """
    counts: dict[tuple[str, str | None], int] = {}
    for answer in answers.values():
        for row in () if answer is None else answer.rows:
            if is_shown(row.prefix):
                by = row.by if row.by is not None and is_shown(row.by) else None
                counts[row.prefix, by] = counts.get((row.prefix, by), 0) + row.count
    rows = [EvictionCount(prefix, by, count) for (prefix, by), count in counts.items()]
    return sorted(rows, key=lambda row: (-row.count, row.prefix, row.by or ""))[:most]
