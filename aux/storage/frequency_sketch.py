"""How often keys were used lately, about: a count-min sketch that halves all counts from time to time.

Einziger, Friedman, Manes, "TinyLFU: a highly efficient cache admission policy", ACM TOS 2017.
"""

from __future__ import annotations

from typing import Final

_LEAST: Final = 256
_ROWS: Final = 4
_MOST: Final = 15
_PERIOD: Final = 10
_HALVED: Final = bytes(count // 2 for count in range(256))


class FrequencySketch:
    """Counts up to 15 of keys by their hashes: never too low but for halving. 4 to 8 bytes for each key it is fit for."""

    __slots__ = ("_added", "_counts", "_mask")

    def __init__(self) -> None:
        self._mask = _LEAST - 1
        self._counts = bytearray(_ROWS * _LEAST)
        self._added = 0

    def fit(self, keys: int) -> None:
        """Tell about as many as `keys` apart; all counts are lost when it grows."""
        size = self._mask + 1
        if size >= keys:
            return
        while size < keys:
            size *= 2
        self._mask = size - 1
        self._counts = bytearray(_ROWS * size)
        self._added = 0

    def add(self, key_hash: int) -> None:
        """One more use. O(1), but for the halving after ten uses for each key it is fit for."""
        counts, mask = self._counts, self._mask
        step = (key_hash >> 32) | 1
        for row in range(_ROWS):
            at = (key_hash + row * step & mask) * _ROWS + row
            if counts[at] < _MOST:
                counts[at] += 1
        self._added += 1
        if self._added >= _PERIOD * (mask + 1):
            self._added //= 2
            self._counts = bytearray(counts.translate(_HALVED))

    def count(self, key_hash: int) -> int:
        """How often the key was used."""
        counts, mask = self._counts, self._mask
        step = (key_hash >> 32) | 1
        least = _MOST
        for row in range(_ROWS):
            least = min(least, counts[(key_hash + row * step & mask) * _ROWS + row])
        return least
