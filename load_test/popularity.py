"""Which key is asked for next: a Zipf distribution over a fixed set of keys."""

from __future__ import annotations

import itertools
import random


class Popularity:
    """Ranks 0 to `keys` - 1, drawn with probability proportional to 1 / (rank + 1) ** s.

    `s` = 0 makes all keys equally popular; web caches see about 0.6 to 1.0 (Breslau et al., "Web Caching and
    Zipf-like Distributions", 1999). Costs 8 bytes a key, and a binary search a draw.
    """

    def __init__(self, keys: int, s: float, random_source: random.Random) -> None:
        if keys < 1 or s < 0:
            raise ValueError(f"there must be at least one key and s >= 0, got {keys} and {s}")
        self._ranks = range(keys)
        self._cumulative = list(itertools.accumulate((rank + 1) ** -s for rank in self._ranks))
        self._random = random_source

    def draw(self) -> int:
        """One rank."""
        return self.draw_many(1)[0]

    def draw_many(self, count: int) -> list[int]:
        """`count` ranks, independent of each other."""
        return self._random.choices(self._ranks, cum_weights=self._cumulative, k=count)
