"""Policies of queues: SIEVE (Zhang et al., NSDI 2024), S3-FIFO (Yang et al., SOSP 2023) and W-TinyLFU (Einziger et al., TOS 2017).

The queues are linked lists over slots, in arrays. Entries of replicas are in none; those of a partition that becomes evictable join
little by little, as those that another policy left.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container
from typing import Final

from aux.storage.frequency_sketch import FrequencySketch
from aux.storage.ghosts import Ghosts
from aux.storage.partition_data import PartitionData
from aux.storage.policy import Policy, Victim
from ringmaster.protocol.entry import unpack_slot
from ringmaster.protocol.hashing import hash_of

_NONE: Final = (1 << 32) - 1
_TAKEN_IN: Final = 16
_MOST_USES: Final = 3
_UNLISTED: Final = 0


class Queues(Policy):
    """Queues 1 and up; 0 stands for none. A new entry goes to the end of the one that `_first_queue` says."""

    __slots__ = (
        "_cost",
        "_costs",
        "_heads",
        "_homes",
        "_keys",
        "_next",
        "_of",
        "_previous",
        "_tails",
        "_used",
        "_uses",
        "_waiting",
        "_where",
    )

    def __init__(self, queues: int, cost: Callable[[int, int], int]) -> None:
        super().__init__()
        self._cost = cost
        self._costs = array("I")
        self._homes = array("I")
        self._next = array("I")
        self._previous = array("I")
        self._where = bytearray()
        self._uses = bytearray()
        self._keys: list[bytes | None] = []
        self._heads = [_NONE] * (queues + 1)
        self._tails = [_NONE] * (queues + 1)
        self._used = [0] * (queues + 1)
        self._of: dict[int, PartitionData] = {}
        self._waiting: list[tuple[PartitionData, list[bytes]]] = []

    def touch(self, data: PartitionData, key: bytes) -> bytes | None:
        """The entry of `key`, which is used now; in a replica a plain look-up."""
        entry = data.entries.get(key)
        if entry is not None and data.evictable:
            self._hit(key, unpack_slot(entry)[0])
        return entry

    def stamp(self, data: PartitionData, key: bytes, cost: int) -> int:
        """A slot for a new entry, in its first queue."""
        if self._waiting:
            self._take_in(_TAKEN_IN)
        slot = self._take_slot()
        cost = max(1, cost)
        if slot == len(self._keys):
            self._keys.append(key)
            self._costs.append(cost)
            self._homes.append(data.number)
            self._next.append(_NONE)
            self._previous.append(_NONE)
            self._where.append(_UNLISTED)
            self._uses.append(0)
        else:
            self._keys[slot] = key
            self._costs[slot] = cost
            self._homes[slot] = data.number
            self._uses[slot] = 0
        if data.evictable:
            self._push(self._first_queue(key), slot)
        return slot

    def renew(self, data: PartitionData, key: bytes, slot: int, change: int) -> None:
        """The entry of `slot` was written again and costs so many bytes more: used now."""
        if change and self._keys[slot] is not None:
            before = self._costs[slot]
            cost = max(1, before + change)
            self._used[self._where[slot]] += cost - before
            self._costs[slot] = cost
        if data.evictable:
            self._hit(key, slot)

    def release(self, key: bytes, slot: int) -> None:
        """The entry of `slot` is gone."""
        if self._where[slot] != _UNLISTED:
            self._gone(key, slot)
            self._unlink(slot)
        self._keys[slot] = None
        self.ticks[slot] = self._free
        self._free = slot

    def forget_slots(self) -> None:
        """No entry is left anywhere: the arrays go."""
        super().forget_slots()
        self._size(0)

    def succeed(self, before: Policy) -> None:
        """Take the slots over; what is in them is told by `know`."""
        super().succeed(before)
        self._size(len(self.ticks))

    def know(self, data: PartitionData) -> None:
        """Take in the entries of a partition little by little."""
        if data.entries:
            self._waiting.append((data, list(data.entries)))

    def enlist(self, data: PartitionData) -> None:
        """`data` is evictable and has entries (call again whenever one of the two becomes true)."""
        self._of[data.number] = data
        self.know(data)

    def forget(self, partition: int) -> None:
        """The partition is gone or no longer evictable; its entries leave their queues when they come to the front."""
        self._of.pop(partition, None)

    def victim(self, among: Container[int] | None) -> Victim | None:
        """Who goes first; it stays until it is used or removed."""
        if among is not None:
            return self._oldest_written(among)
        while True:
            slot = self._choose()
            if slot != _NONE:
                found = self._entry_at(slot)
                if found is not None:
                    return found
                self._unlink(slot)
            elif self._waiting:
                self._take_in(_TAKEN_IN)
            else:
                return None

    # What the policies say.

    def _first_queue(self, key: bytes) -> int:
        return 1

    def _hit(self, key: bytes, slot: int) -> None:
        """A use of an entry, which may be in no queue yet."""
        self._uses[slot] = 1

    def _gone(self, key: bytes, slot: int) -> None:
        """The entry, which is still in its queue, is removed."""

    def _choose(self) -> int:
        """The slot of the victim, which stays in its queue; `_NONE` if all queues are empty."""
        raise NotImplementedError

    # Queues.

    def _push(self, queue: int, slot: int) -> None:
        last = self._tails[queue]
        self._previous[slot] = last
        self._next[slot] = _NONE
        if last == _NONE:
            self._heads[queue] = slot
        else:
            self._next[last] = slot
        self._tails[queue] = slot
        self._where[slot] = queue
        self._used[queue] += self._costs[slot]

    def _unlink(self, slot: int) -> None:
        queue = self._where[slot]
        before, after = self._previous[slot], self._next[slot]
        if before == _NONE:
            self._heads[queue] = after
        else:
            self._next[before] = after
        if after == _NONE:
            self._tails[queue] = before
        else:
            self._previous[after] = before
        self._where[slot] = _UNLISTED
        self._used[queue] -= self._costs[slot]

    def _move(self, queue: int, slot: int) -> None:
        self._unlink(slot)
        self._push(queue, slot)

    def _size(self, slots: int) -> None:
        for numbers in (self._costs, self._homes, self._next, self._previous):
            del numbers[:]
            numbers.extend([0] * slots)
        self._where = bytearray(slots)
        self._uses = bytearray(slots)
        self._keys = [None] * slots
        for queue in range(len(self._heads)):
            self._heads[queue] = self._tails[queue] = _NONE
            self._used[queue] = 0

    def _entry_at(self, slot: int) -> Victim | None:
        """What is in the slot, if it is evictable."""
        key = self._keys[slot]
        data = self._of.get(self._homes[slot])
        if key is None or data is None:
            return None
        entry = data.entries.get(key)
        if entry is None or unpack_slot(entry)[0] != slot:
            return None
        return data, key, entry

    def _oldest_written(self, among: Container[int]) -> Victim | None:
        """Of the first of each of these partitions the one written first: a replica is over its share."""
        best: Victim | None = None
        least = 0
        for number, data in self._of.items():
            if number in among and data.entries:
                key, entry = next(iter(data.entries.items()))
                tick = self.ticks[unpack_slot(entry)[0]]
                if best is None or tick < least:
                    best, least = (data, key, entry), tick
        return best

    def _take_in(self, count: int) -> None:
        while count > 0 and self._waiting:
            data, keys = self._waiting[-1]
            if not keys:
                self._waiting.pop()
                continue
            key = keys.pop()
            count -= 1
            entry = data.entries.get(key)
            if entry is None:
                continue
            (slot,) = unpack_slot(entry)
            if self._keys[slot] is None:
                self._keys[slot] = key
                self._homes[slot] = data.number
                self._costs[slot] = max(1, self._cost(len(key), len(entry)))
            if data.evictable and self._where[slot] == _UNLISTED:
                self._push(self._first_queue(key), slot)


class Sieve(Queues):
    """One queue, and a hand that spares who was used since it came by."""

    __slots__ = ("_hand",)

    def __init__(self, cost: Callable[[int, int], int]) -> None:
        super().__init__(1, cost)
        self._hand = _NONE

    @property
    def name(self) -> str:
        return "sieve"

    def _unlink(self, slot: int) -> None:
        if slot == self._hand:
            self._hand = self._next[slot]
        super()._unlink(slot)

    def _choose(self) -> int:
        hand = self._hand if self._hand != _NONE else self._heads[1]
        while hand != _NONE and self._uses[hand]:
            self._uses[hand] = 0
            hand = self._next[hand]
            if hand == _NONE:
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
            if slot != _NONE and (
                self._used[_SMALL] * _SMALL_SHARE >= self.share_bytes or self._heads[_MAIN] == _NONE
            ):
                if self._uses[slot] <= 1:
                    return slot
                self._uses[slot] = 0
                self._move(_MAIN, slot)
                continue
            slot = self._heads[_MAIN]
            if slot == _NONE or not self._uses[slot]:
                return slot
            self._uses[slot] -= 1
            self._move(_MAIN, slot)


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
        self._loser = _NONE
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
        if queue == _UNLISTED:
            return
        self._move(_WINDOW if queue == _WINDOW else _PROTECTED, slot)
        most = _PROTECTED_SHARE * (1 - self._window) * self.share_bytes
        while self._used[_PROTECTED] > most and self._heads[_PROTECTED] != self._tails[_PROTECTED]:
            self._move(_PROBATION, self._heads[_PROTECTED])

    def _unlink(self, slot: int) -> None:
        if slot == self._loser:
            self._loser = _NONE
        super()._unlink(slot)

    def _choose(self) -> int:
        if self._loser == _NONE:
            self._loser = self._duel()
        return self._loser

    def _duel(self) -> int:
        main = self._heads[_PROBATION]
        if main == _NONE:
            main = self._heads[_PROTECTED]
        candidate = self._heads[_WINDOW]
        if candidate == _NONE or (
            main != _NONE and self._used[_WINDOW] <= self._window * self.share_bytes
        ):
            return main
        if main in {_NONE, candidate}:
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
