"""SIEVE (Zhang et al., NSDI 2024) and S3-FIFO (Yang et al., SOSP 2023): a use moves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aux.storage.ghosts import Ghosts
from aux.storage.queues import NONE, Queues
from ringmaster.protocol.hashing import hash_of

_MOST_USES: Final = 3


class Sieve(Queues):
    """One queue, and a hand that spares who was used since it came by."""

    __slots__ = ("_hand",)

    def __init__(self, cost: Callable[[int, int], int]) -> None:
        super().__init__(1, cost)
        self._hand = NONE

    @property
    def name(self) -> str:
        return "sieve"

    def _unlink(self, slot: int) -> None:
        if slot == self._hand:
            self._hand = self._next[slot]
        super()._unlink(slot)

    def _choose(self) -> int:
        hand = self._hand if self._hand != NONE else self._heads[1]
        while hand != NONE and self._uses[hand]:
            self._uses[hand] = 0
            hand = self._next[hand]
            if hand == NONE:
                hand = self._heads[1]
        self._hand = hand
        return hand


_SMALL: Final = 1
_MAIN: Final = 2
_SMALL_SHARE: Final = 10


class S3Fifo(Queues):
    """A small queue that new entries pass through, a main one, and ghosts."""

    __slots__ = ("_ghosts",)

    def __init__(self, cost: Callable[[int, int], int]) -> None:
        super().__init__(2, cost)
        self._ghosts = Ghosts()

    @property
    def name(self) -> str:
        return "s3fifo"

    def grown(self, entries: int, used_bytes: int) -> None:
        """There are about so many evictable entries now."""
        self._ghosts.fit(entries)

    def _first_queue(self, key: bytes) -> int:
        return _SMALL if self._ghosts.take(hash_of(key), self._tick) is None else _MAIN

    def _hit(self, key: bytes, slot: int) -> None:
        if self._uses[slot] < _MOST_USES:
            self._uses[slot] += 1

    def _gone(self, key: bytes, slot: int) -> None:
        if self._where[slot] == _SMALL:
            self._ghosts.add(hash_of(key), self._tick, 1)

    def _choose(self) -> int:
        while True:
            slot = self._heads[_SMALL]
            if slot != NONE and (
                self._used[_SMALL] * _SMALL_SHARE >= self.share_bytes or self._heads[_MAIN] == NONE
            ):
                if self._uses[slot] <= 1:
                    return slot
                self._uses[slot] = 0
                self._move(_MAIN, slot)
                continue
            slot = self._heads[_MAIN]
            if slot == NONE or not self._uses[slot]:
                return slot
            self._uses[slot] -= 1
            self._move(_MAIN, slot)
