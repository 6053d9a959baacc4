"""Key to partition: xxh3_64 of the key's UTF-8 bytes, masked."""

from __future__ import annotations

from xxhash import xxh3_64_intdigest


def hash_of(key: bytes) -> int:
    """64 bits: the lowest choose the partition, those above are free for other uses."""
    return xxh3_64_intdigest(key)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key`, 0 <= p < `partitions`; `partitions` is a power of two."""
    return xxh3_64_intdigest(key) & (partitions - 1)


def token_of(partition: int, term: int) -> bytes:
    """The token that names a partition in a term on the wire, e.g. `b"17.5"`."""
    return b"%d.%d" % (partition, term)
