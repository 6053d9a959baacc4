"""The names of the eviction policies: a cluster has one at a time."""

from __future__ import annotations

from typing import Final, Literal, get_args

EvictionPolicy = Literal["adaptive", "lru", "sieve", "s3fifo", "wtinylfu"]

POLICIES: Final[tuple[str, ...]] = get_args(EvictionPolicy)
DEFAULT_POLICY: Final = "adaptive"
