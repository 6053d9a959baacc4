"""What policies of queues share: linked lists over slots, in arrays.

Entries of replicas are in none; those of a partition that becomes evictable join
little by little, as those that another policy left.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container
from typing import Final

from aux.storage.partition_data import PartitionData
from aux.storage.policy import Policy, Victim
from ringmaster.protocol.entry import unpack_slot

NONE: Final = (1 << 32) - 1
"""No slot."""

_TAKEN_IN: Final = 16
UNLISTED: Final = 0
"""In no queue."""


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
        self._heads = [NONE] * (queues + 1)
        self._tails = [NONE] * (queues + 1)
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
            self._next.append(NONE)
            self._previous.append(NONE)
            self._where.append(UNLISTED)
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
        if self._where[slot] != UNLISTED:
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
            if slot != NONE:
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
        """The slot of the victim, which stays in its queue; `NONE` if all queues are empty."""
        raise NotImplementedError

    # Queues.

    def _push(self, queue: int, slot: int) -> None:
        last = self._tails[queue]
        self._previous[slot] = last
        self._next[slot] = NONE
        if last == NONE:
            self._heads[queue] = slot
        else:
            self._next[last] = slot
        self._tails[queue] = slot
        self._where[slot] = queue
        self._used[queue] += self._costs[slot]

    def _unlink(self, slot: int) -> None:
        queue = self._where[slot]
        before, after = self._previous[slot], self._next[slot]
        if before == NONE:
            self._heads[queue] = after
        else:
            self._next[before] = after
        if after == NONE:
            self._tails[queue] = before
        else:
            self._previous[after] = before
        self._where[slot] = UNLISTED
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
            self._heads[queue] = self._tails[queue] = NONE
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
            if data.evictable and self._where[slot] == UNLISTED:
                self._push(self._first_queue(key), slot)
