"""Which tags the entries of a partition may carry, and how many invalidations it remembers at one time (R11)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from xxhash import xxh3_64_intdigest

MAX_RECORDS: Final = 4096
"""Records of one partition, at most: more invalidations are shed until a sweep has ended."""

_BITS: Final = 1 << 15
_MASK: Final = _BITS - 1


class TagFilter:
    """Which tags entries of a partition may carry: a Bloom filter (Bloom 1970), 4 KiB, of two bits for each tag.

    Says yes of every tag that was added, and of a few others: 3 % of them with 3,000 different tags in it.
    """

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(_BITS >> 3)

    def add(self, tags: Iterable[str]) -> None:
        """Say yes of `tags` from now on."""
        bits = self._bits
        for tag in tags:
            digest = xxh3_64_intdigest(tag.encode())
            for bit in (digest & _MASK, digest >> 15 & _MASK):
                bits[bit >> 3] |= 1 << (bit & 7)

    def has(self, digest: int) -> bool:
        """Whether the tag whose XXH3 (64 bits) is `digest` may have been added."""
        first, second = digest & _MASK, digest >> 15 & _MASK
        bits = self._bits
        return bool(bits[first >> 3] >> (first & 7) & bits[second >> 3] >> (second & 7) & 1)
