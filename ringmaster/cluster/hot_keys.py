"""The keys that are read most: what nodes say, put together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from ringmaster.runtime.decoding import json_decoder

MOST_HOT_KEYS: Final = 1000
"""Keys in an answer, at most."""


class HotKey(msgspec.Struct, frozen=True):
    """A key and its reads a second, lately: those that masters answered from copies included. `copies`: masters that hold one."""

    key: str
    reads_per_s: float
    node: str
    partition: int
    copies: int


encode_hot_keys = msgspec.json.Encoder().encode
decode_hot_keys = json_decoder(list[HotKey])


def hottest(
    answers: Mapping[str, Sequence[HotKey] | None], most: int, is_shown: Callable[[str], bool]
) -> list[HotKey]:
    """The `most` that are read most of all `answers` by node (None: it gave none), but for those that may not be shown.

    A key that has moved may be known to two nodes: who knows more of it counts.
    """
    found: dict[str, HotKey] = {}
    for rows in answers.values():
        for row in rows or ():
            known = found.get(row.key)
            if is_shown(row.key) and (known is None or known.reads_per_s < row.reads_per_s):
                found[row.key] = row
    return sorted(found.values(), key=lambda row: (-row.reads_per_s, row.key))[:most]
