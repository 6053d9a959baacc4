"""Which tags the entries of a partition may carry, in which partitions of a node a tag is, and how many invalidations are remembered (R11)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from xxhash import xxh3_64_intdigest

MAX_RECORDS: Final = 4096
"""Records of one partition, at most: more invalidations are shed until a sweep has ended."""

_BITS: Final = 1 << 15
_MASK: Final = _BITS - 1


class TagIndex:
    """In which partitions a tag may be: for each bit of a `TagFilter` those whose filter has it set, as bits of an integer.

    It looks at two integers where asking each filter would miss the processor's caches a few times for every partition. It may
    name too many: filters that were made anew or dropped are still in it until `correct`.
    """

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, bit: int, partition: int) -> None:
        """The filter of `partition` has this bit set now."""
        self._rows[bit] = self._rows.get(bit, 0) | 1 << partition

    def partitions(self, digest: int) -> int:
        """The partitions, as bits, that the tag whose XXH3 (64 bits) is `digest` may be in."""
        return self._rows.get(digest & _MASK, 0) & self._rows.get(digest >> 15 & _MASK, 0)

    def correct(self, digest: int, partition: int, carriers: TagFilter | None) -> None:
        """`carriers`, which `partition` has now, says no of this tag: forget which of its bits are not set."""
        for bit in (digest & _MASK, digest >> 15 & _MASK):
            if carriers is None or not carriers.has_bit(bit):
                row = self._rows.get(bit, 0) & ~(1 << partition)
                if row:
                    self._rows[bit] = row
                else:
                    self._rows.pop(bit, None)


class TagFilter:
    """Which tags entries of a partition may carry: a Bloom filter (Bloom 1970), 4 KiB, of two bits for each tag.

    Says yes of every tag that was added, and of a few others: 3 % of them with 3,000 different tags in it.
    """

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(_BITS >> 3)

    def add(self, tags: Iterable[str]) -> list[int]:
        """Say yes of `tags` from now on. Returns the bits that were not set."""
        bits = self._bits
        fresh: list[int] = []
        for tag in tags:
            digest = xxh3_64_intdigest(tag.encode())
            for bit in (digest & _MASK, digest >> 15 & _MASK):
                if not bits[bit >> 3] >> (bit & 7) & 1:
                    bits[bit >> 3] |= 1 << (bit & 7)
                    fresh.append(bit)
        return fresh

    def has(self, digest: int) -> bool:
        """Whether the tag whose XXH3 (64 bits) is `digest` may have been added."""
        return self.has_bit(digest & _MASK) and self.has_bit(digest >> 15 & _MASK)

    def has_bit(self, bit: int) -> bool:
        """Whether `bit` is set."""
        return bool(self._bits[bit >> 3] >> (bit & 7) & 1)
