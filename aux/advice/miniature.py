"""A model of the cache, scaled down: it holds no values, and of all keys only those whose hashes are low.

Waldspurger et al., "Cache modeling and optimization using miniature simulations", ATC 2017; sampling as in "Efficient MRC
construction with SHARDS", FAST 2015: by a threshold on the key's hash, which is lowered when the sample has become too large.
"""

from __future__ import annotations

from array import array
from typing import Final

from aux.storage.partition_data import PartitionData
from aux.storage.policies import make_policy
from ringmaster.protocol.entry import pack_slot, unpack_slot

PLACES: Final = 1 << 24
"""A key's place is below this: a threshold of `PLACES` lets all keys in."""

HIT: Final = 1
LRU_HIT: Final = 2
"""What `Miniature.read` returns, as bits."""

_GROWN_EVERY: Final = 15


def place_of(key: int) -> int:
    """Where a key stands among all: the smaller, the more surely it is sampled."""
    return key >> 40


class Miniature:
    """Keys are 64-bit numbers: place (24 bits) and hash. `share_bytes`: what those it holds may cost. A cost of 0 is one that is not known.

    `threshold`: of the places of keys it is given. `is_crowded`: it holds more than it should, see `thin_out`.
    """

    __slots__ = ("share_bytes", "threshold")

    def __init__(self) -> None:
        self.threshold = PLACES
        self.share_bytes = 0

    @property
    def entries(self) -> int:
        """How many keys it holds."""
        raise NotImplementedError

    @property
    def used_bytes(self) -> int:
        """What they cost."""
        raise NotImplementedError

    @property
    def is_crowded(self) -> bool:
        raise NotImplementedError

    def read(self, key: int, cost: int, now: int) -> int:
        """A read at access `now`: which caches hit. Those that miss hold the key from now on, if its cost is known."""
        raise NotImplementedError

    def fill(self, key: int, cost: int, now: int) -> None:
        """The write that follows a read that found nothing: those that missed hold the key from now on; no use for the others."""
        raise NotImplementedError

    def write(self, key: int, cost: int, now: int) -> None:
        """A write: a use where it is held; it is held everywhere from now on."""
        raise NotImplementedError

    def remove(self, key: int) -> None:
        """The key is gone: deleted, expired or invalidated. It may not be held."""
        raise NotImplementedError

    def fit(self, share_bytes: int) -> None:
        """They may cost so much from now on."""
        raise NotImplementedError

    def thin_out(self, threshold: int) -> None:
        """Lower the threshold; keys above it are dropped."""
        raise NotImplementedError


class SlotEntries:
    """The entries of all miniatures: an entry is its slot and nothing else, so that one object does for all."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: list[bytes] = []

    def of(self, slot: int) -> bytes:
        """The entry in `slot`."""
        made = self._made
        while len(made) <= slot:
            made.append(pack_slot(len(made)))
        return made[slot]


class PolicyMiniature(Miniature):
    """One cache by the real policy of that name. `most`: keys it should hold."""

    __slots__ = ("_costs", "_data", "_entries", "_inserted", "_most", "_policy", "_used")

    def __init__(self, policy: str, most: int, entries: SlotEntries) -> None:
        super().__init__()
        self._policy = make_policy(policy, 1, _no_cost)
        self._most = most
        self._data = PartitionData(0, evictable=True)
        self._entries = entries
        self._costs = array("I")
        self._used = 0
        self._inserted = 0

    @property
    def entries(self) -> int:
        return len(self._data.entries)

    @property
    def used_bytes(self) -> int:
        return self._used

    @property
    def is_crowded(self) -> bool:
        return len(self._data.entries) > self._most

    def read(self, key: int, cost: int, now: int) -> int:
        name = _name_of(key)
        entry = self._policy.touch(self._data, name)
        if entry is not None:
            return HIT
        if cost:
            self._insert(name, cost)
        return 0

    def fill(self, key: int, cost: int, now: int) -> None:
        name = _name_of(key)
        if name not in self._data.entries:
            self._insert(name, cost)

    def write(self, key: int, cost: int, now: int) -> None:
        name = _name_of(key)
        entry = self._data.entries.get(name)
        if entry is None:
            self._insert(name, cost)
            return
        (slot,) = unpack_slot(entry)
        if cost > self.share_bytes:
            self._drop(name)
            return
        change = cost - self._costs[slot]
        if self._policy.keeps_order:
            del self._data.entries[name]
            self._data.entries[name] = entry
        self._policy.renew(self._data, name, slot, change)
        self._costs[slot] = cost
        self._used += change
        self._evict()

    def remove(self, key: int) -> None:
        name = _name_of(key)
        if name in self._data.entries:
            self._drop(name)

    def fit(self, share_bytes: int) -> None:
        self.share_bytes = self._policy.share_bytes = share_bytes
        self._evict()

    def thin_out(self, threshold: int) -> None:
        self.threshold = threshold
        gone = [
            name
            for name in self._data.entries
            if place_of(int.from_bytes(name, "big") << 8) >= threshold
        ]
        for name in gone:
            self._drop(name)

    def _insert(self, name: bytes, cost: int) -> None:
        if cost > self.share_bytes:
            return
        data, policy = self._data, self._policy
        slot = policy.stamp(data, name, cost)
        if slot == len(self._costs):
            self._costs.append(cost)
        else:
            self._costs[slot] = cost
        data.entries[name] = self._entries.of(slot)
        self._used += cost
        if len(data.entries) == 1:
            policy.enlist(data)
        self._inserted += 1
        if not self._inserted & _GROWN_EVERY:
            policy.grown(len(data.entries), self._used)
        self._evict()

    def _evict(self) -> None:
        while self._used > self.share_bytes:
            victim = self._policy.victim(None)
            if victim is None:
                return
            self._drop(victim[1])

    def _drop(self, name: bytes) -> None:
        entries = self._data.entries
        (slot,) = unpack_slot(entries.pop(name))
        self._policy.release(name, slot)
        self._used -= self._costs[slot]
        if not entries:
            entries.clear()
            self._policy.forget_slots()
            del self._costs[:]


def _name_of(key: int) -> bytes:
    """Its first 56 bits: a `bytes` of 7 takes a quarter less memory than one of 8."""
    return (key >> 8).to_bytes(7, "big")


def _no_cost(_key_length: int, _entry_length: int) -> int:
    """Nothing comes into a miniature but by `stamp`, which is told the cost."""
    return 1
