"""Whose entries were evicted for whose writes: counts of pairs of prefixes, in a bounded table. No clock, no I/O."""

from __future__ import annotations

from typing import Final

from aux.node.hot_keys import HotKeys
from aux.storage.removals import prefix_of

MOST_PAIRS: Final = 2048
"""Pairs in the table; with more, counts are too low by what `HotKeys` takes off."""

EXACT: Final = 10_000
"""So many are counted one by one; of those behind one in eight, for eight."""

_SAMPLED: Final = 8
_BETWEEN: Final = b"\0"

# A full period generator of 16 bits (Numerical Recipes' "quick and dirty"): which are counted.
_LCG_FACTOR: Final = 25173
_LCG_STEP: Final = 13849
_LCG_MASK: Final = 0xFFFF


class EvictionTally:
    """Counts since the node started. `evictions`: all of them; those of pairs are estimates."""

    __slots__ = ("_dice", "_pairs", "evictions")

    def __init__(self) -> None:
        self._pairs = HotKeys(MOST_PAIRS)
        self._dice = 1
        self.evictions = 0

    def add(self, key: bytes, cause: bytes) -> None:
        """`key` was evicted for a write of a key with the prefix `cause`; empty: for no write."""
        self.evictions += 1
        if self.evictions <= EXACT:
            self._pairs.add(prefix_of(key) + _BETWEEN + cause)
            return
        dice = self._dice = (self._dice * _LCG_FACTOR + _LCG_STEP) & _LCG_MASK
        if not (dice >> 8) % _SAMPLED:
            self._pairs.add(prefix_of(key) + _BETWEEN + cause, _SAMPLED)

    def top(self, most: int) -> list[tuple[bytes, bytes, int]]:
        """Up to `most` pairs (prefix of what was evicted, of what was written, how often), the most frequent first."""
        found = []
        for pair, count in self._pairs.top(most):
            prefix, _, cause = pair.rpartition(_BETWEEN)
            found.append((prefix, cause, count))
        return found
