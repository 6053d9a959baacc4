"""Makes the policies that `ringmaster/config/eviction.py` names."""

from __future__ import annotations

from collections.abc import Callable

from aux.storage.adaptive import Adaptive
from aux.storage.fifo_policies import S3Fifo, Sieve
from aux.storage.lru import Lru
from aux.storage.policy import Policy
from aux.storage.wtinylfu import WTinyLfu


def make_policy(name: str, partitions: int, cost: Callable[[int, int], int]) -> Policy:
    """A policy that has seen no entry. `cost(key_length, entry_length)` in bytes of the budget. ValueError for an unknown name."""
    if name == "adaptive":
        return Adaptive(partitions, cost)
    if name == "lru":
        return Lru(partitions)
    if name == "sieve":
        return Sieve(cost)
    if name == "s3fifo":
        return S3Fifo(cost)
    if name == "wtinylfu":
        return WTinyLfu(cost)
    raise ValueError(f"{name}: no such eviction policy")
