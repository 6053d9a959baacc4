"""What is remembered of entries that were evicted: 8 bytes each, in a table that forgets by overwriting."""

from __future__ import annotations

from array import array
from typing import Final

_LEAST: Final = 256
_PRINT_BITS: Final = 20
_PRINT_MASK: Final = (1 << _PRINT_BITS) - 1
_TICK_MASK: Final = (1 << 32) - 1
_TRAITS_MASK: Final = (1 << 12) - 1


class Ghosts:
    """By fingerprint: when an entry was last used, and 12 bits of traits. About one in a million is taken for another."""

    __slots__ = ("_mask", "_table")

    def __init__(self) -> None:
        self._mask = _LEAST - 1
        self._table = array("Q", [0]) * _LEAST

    def fit(self, entries: int) -> None:
        """Have room for about as many as there are `entries`; when it grows or shrinks all are forgotten."""
        size = self._mask + 1
        if size < entries or size > 4 * max(_LEAST, entries):
            size = _LEAST
            while size < entries:
                size *= 2
            self._mask = size - 1
            self._table = array("Q", [0]) * size

    def add(self, key_hash: int, tick: int, traits: int) -> None:
        """Remember an entry; whatever was in its place is forgotten."""
        mark = (key_hash >> 44 & _PRINT_MASK) << 44
        self._table[key_hash >> 12 & self._mask] = mark | traits << 32 | tick & _TICK_MASK

    def take(self, key_hash: int, tick: int) -> tuple[int, int] | None:
        """(accesses since its last use, traits) of an entry, which is forgotten; None if it is not remembered."""
        at = key_hash >> 12 & self._mask
        found = self._table[at]
        if not found or found >> 44 != key_hash >> 44 & _PRINT_MASK:
            return None
        self._table[at] = 0
        return (tick - found) & _TICK_MASK, found >> 32 & _TRAITS_MASK

    def clear(self) -> None:
        """Forget all, and give the memory back."""
        self._mask = _LEAST - 1
        self._table = array("Q", [0]) * _LEAST
