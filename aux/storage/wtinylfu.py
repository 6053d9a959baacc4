"""W-TinyLFU (Einziger et al., TOS 2017): who comes in must be used more than who would have to go for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aux.storage.frequency_sketch import FrequencySketch
from aux.storage.queues import NONE, UNLISTED, Queues
from ringmaster.protocol.hashing import hash_of

_WINDOW: Final = 1
_PROBATION: Final = 2
_PROTECTED: Final = 3
_PROTECTED_SHARE: Final = 0.8
_LEAST_WINDOW: Final = 0.01
_MOST_WINDOW: Final = 0.8
_STEP: Final = 0.0625
_STEP_DECAY: Final = 0.98
_RESTART: Final = 0.05
_PERIOD: Final = 10
_SPILLED: Final = 16
_LEAST_PERIOD: Final = 1000


class WTinyLfu(Queues):
    """A window of new entries that are admitted if they are used more often, per byte, than who would have to go.

    The window grows or shrinks as long as hits become more by it (Einziger et al., "Adaptive software cache management",
    Middleware 2018).
    """

    __slots__ = (
        "_entries",
        "_hits",
        "_loser",
        "_ratio",
        "_requests",
        "_sketch",
        "_step",
        "_window",
    )

    def __init__(self, cost: Callable[[int, int], int]) -> None:
        super().__init__(3, cost)
        self._sketch = FrequencySketch()
        self._entries = 0
        self._window = _LEAST_WINDOW
        self._loser = NONE
        self._step = _STEP
        self._ratio = -1.0
        self._hits = self._requests = 0

    @property
    def name(self) -> str:
        return "wtinylfu"

    def grown(self, entries: int, used_bytes: int) -> None:
        """There are about so many evictable entries now."""
        self._entries = entries
        self._sketch.fit(entries)

    def _first_queue(self, key: bytes) -> int:
        self._sketch.add(hash_of(key))
        self._count(0)
        self._spill()
        return _WINDOW

    def _spill(self) -> None:
        """While there is room for all, what the window has too much of is admitted."""
        used = self._used
        most = int(self._window * self.share_bytes)
        if used[_WINDOW] + used[_PROBATION] + used[_PROTECTED] >= self.share_bytes:
            return
        for _ in range(_SPILLED):
            if used[_WINDOW] <= most:
                return
            self._move(_PROBATION, self._heads[_WINDOW])

    def _hit(self, key: bytes, slot: int) -> None:
        self._sketch.add(hash_of(key))
        self._count(1)
        queue = self._where[slot]
        if queue == UNLISTED:
            return
        self._move(_WINDOW if queue == _WINDOW else _PROTECTED, slot)
        most = _PROTECTED_SHARE * (1 - self._window) * self.share_bytes
        while self._used[_PROTECTED] > most and self._heads[_PROTECTED] != self._tails[_PROTECTED]:
            self._move(_PROBATION, self._heads[_PROTECTED])

    def _unlink(self, slot: int) -> None:
        if slot == self._loser:
            self._loser = NONE
        super()._unlink(slot)

    def _choose(self) -> int:
        if self._loser == NONE:
            self._loser = self._duel()
        return self._loser

    def _duel(self) -> int:
        main = self._heads[_PROBATION]
        if main == NONE:
            main = self._heads[_PROTECTED]
        candidate = self._heads[_WINDOW]
        if candidate == NONE or (
            main != NONE and self._used[_WINDOW] <= self._window * self.share_bytes
        ):
            return main
        if main in {NONE, candidate}:
            return candidate
        if self._worth(candidate) <= self._worth(main):
            return candidate
        self._move(_PROBATION, candidate)
        return main

    def _worth(self, slot: int) -> float:
        key = self._keys[slot]
        return 0.0 if key is None else self._sketch.count(hash_of(key)) / self._costs[slot]

    def _count(self, hit: int) -> None:
        """Count a request, and change the window when enough have been counted."""
        self._hits += hit
        self._requests += 1
        if self._requests < max(_LEAST_PERIOD, _PERIOD * self._entries):
            return
        ratio = self._hits / self._requests
        self._hits = self._requests = 0
        if self._ratio >= 0:
            change = ratio - self._ratio
            if change < 0:
                self._step = -self._step
            if abs(change) >= _RESTART:
                self._step = _STEP if self._step > 0 else -_STEP
            else:
                self._step *= _STEP_DECAY
            self._window = min(_MOST_WINDOW, max(_LEAST_WINDOW, self._window + self._step))
        self._ratio = ratio
