"""The adaptive policy: looks at some entries at a time, and evicts those worth least by the rule that hits most (adr/0022).

The rules are in `aux/storage/scoring.py`; which of them hits most is found by `ShadowCaches`. A use writes the tick and 16 bits
of traits, and moves nothing. Beside those a slot has its entry's key and cost, so that looking at an entry reads arrays only.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Sequence
from itertools import islice
from typing import Any, Final

from aux.storage.ghosts import Ghosts
from aux.storage.partition_data import PartitionData
from aux.storage.policy import LOADED_TICKS, Policy, Victim
from aux.storage.reuse_model import MAX_OCTAVE, ReuseModel, reused
from aux.storage.scoring import FREQUENCY, InflationClock, score
from aux.storage.shadow_caches import SAMPLED, ShadowCaches, is_sampled
from ringmaster.protocol.entry import slot_of, unpack_slot
from ringmaster.protocol.hashing import hash_of

# By slot: class (8 bits), frequency (4), whether the key may be in the sample, partition (17; a free slot or one that is not
# known yet has one that does not exist), and cost above.
_KIND: Final = 0xFF
_FREQUENCY: Final = 0xF00
_ONE_USE: Final = 0x100
_IN_SAMPLE: Final = 0x1000
_HOME_SHIFT: Final = 13
_HOME_MASK: Final = (1 << 17) - 1
_NOWHERE: Final = _HOME_MASK << _HOME_SHIFT
_COST_SHIFT: Final = 30
_MAX_COST: Final = (1 << 31) - 1

_AFTER: Final = bytes(reused(kind, 0) for kind in range(256))
"""The class after a reuse, its last octave left out."""

_LOOKS: Final = 12
"""Entries looked at for each that is evicted."""

_LOOKED_AT: Final = 96
_RUN: Final = 8
"""Slots looked at one after another: neighbours share cache lines."""

_TAKEN_IN: Final = 16
_MOST_SKIPPED: Final = 32
"""For each entry wanted so many slots are passed over, at most, that are free or of replicas; then partitions are gone through."""

_EMPTY: Final = 4
"""Before a quarter of the budget is used for the first time, one of four uses is learnt from: nothing goes for long."""

# The C library's old generator (POSIX's example of rand).
_LCG_FACTOR: Final = 1103515245
_LCG_STEP: Final = 12345
_LCG_MASK: Final = 0x7FFFFFFF
_LEARNT: Final = (_LCG_MASK + 1) // 4

_THINNER: Final = 3


class Candidate:
    """An entry looked at, as it was then."""

    __slots__ = ("score", "slot", "tick")

    def __init__(self, worth: float, slot: int, tick: int) -> None:
        self.score = worth
        self.slot = slot
        self.tick = tick


class Adaptive(Policy):
    """`cost(key_length, entry_length)`: what an entry costs of the budget, in bytes."""

    __slots__ = (
        "_clock",
        "_cost",
        "_entries",
        "_evictable",
        "_ghosts",
        "_is_empty",
        "_keys",
        "_left",
        "_model",
        "_narrow",
        "_narrow_pool",
        "_of",
        "_pool",
        "_rule",
        "_seed",
        "_shadows",
        "_shift",
        "_traits",
        "_waiting",
    )

    def __init__(self, partitions: int, cost: Callable[[int, int], int]) -> None:
        super().__init__()
        self._cost = cost
        self._traits = array("Q")
        self._keys: list[bytes | None] = []
        self._evictable = [0] * (partitions)
        self._ghosts = Ghosts()
        self._model = ReuseModel()
        self._shadows: ShadowCaches | None = None
        self._clock = InflationClock(LOADED_TICKS)
        self._rule = FREQUENCY
        self._shift = 0
        self._entries = 0
        self._of: dict[int, PartitionData] = {}
        self._pool: list[Candidate] = []
        self._left = 0
        self._narrow: Container[int] | None = None
        self._narrow_pool: list[Candidate] = []
        self._seed = 12345
        self._is_empty = False
        self._waiting: list[tuple[PartitionData, list[bytes]]] = []
        """Partitions, and which of their keys another policy left."""

    @property
    def name(self) -> str:
        return "adaptive"

    @property
    def model(self) -> ReuseModel:
        """What it knows of reuse times, in ticks: one for each use of an entry."""
        return self._model

    def touch(self, data: PartitionData, key: bytes) -> bytes | None:
        """The entry of `key`, which is used now; in a replica a plain look-up."""
        entry = data.entries.get(key)
        if entry is not None and data.evictable:
            self._use(slot_of(entry), key)
        return entry

    def stamp(self, data: PartitionData, key: bytes, cost: int) -> int:
        """A slot for a new entry; what is remembered of it, if it was here, it has again."""
        if self._waiting:
            self._take_in(_TAKEN_IN)
        slot = self._take_slot()
        tick = self._tick
        place = hash_of(key)
        cost = min(max(1, cost), _MAX_COST)
        traits = cost << _COST_SHIFT | data.number << _HOME_SHIFT | _ONE_USE
        if data.evictable:
            ghost = self._ghosts.take(place, tick)
            if ghost is not None:
                age, known = ghost
                uses = (known >> 8) * 3 // 4 + 1
                traits += reused(known & _KIND, age) + (uses - 1 << 8)
        if is_sampled(place, self._shift):
            traits |= _IN_SAMPLE
            if data.evictable:
                self._observe(place, cost)
        if slot == len(self._traits):
            self._traits.append(traits)
            self._keys.append(key)
        else:
            self._traits[slot] = traits
            self._keys[slot] = key
        return slot

    def renew(self, data: PartitionData, key: bytes, slot: int, change: int) -> None:
        """The entry of `slot` was written again and costs so many bytes more: used now."""
        if change and self._keys[slot] is not None:
            traits = self._traits[slot]
            cost = min(max(1, (traits >> _COST_SHIFT) + change), _MAX_COST)
            self._traits[slot] = cost << _COST_SHIFT | traits & ((1 << _COST_SHIFT) - 1)
        if data.evictable:
            self._use(slot, key)
        else:
            self._tick = tick = self._tick + 1
            self.ticks[slot] = tick

    def release(self, key: bytes, slot: int) -> None:
        """The entry of `slot` is gone; it is remembered for a while."""
        if self._shadows is not None:
            traits = self._traits[slot] & (_KIND | _FREQUENCY)
            self._ghosts.add(hash_of(key), self.ticks[slot], traits)
        self._keys[slot] = None
        self._traits[slot] = _NOWHERE
        self.ticks[slot] = self._free
        self._free = slot

    def release_many(self, keys: Sequence[bytes], entries: Sequence[bytes]) -> None:
        """`release` for each key and the slot of its entry, in their order."""
        ticks, traits, held, free = self.ticks, self._traits, self._keys, self._free
        ghosts = None if self._shadows is None else self._ghosts
        for key, entry in zip(keys, entries, strict=True):
            slot = slot_of(entry)
            if ghosts is not None:
                ghosts.add(hash_of(key), ticks[slot], traits[slot] & (_KIND | _FREQUENCY))
            held[slot] = None
            traits[slot] = _NOWHERE
            ticks[slot] = free
            free = slot
        self._free = free

    def forget_slots(self) -> None:
        """No entry is left anywhere: the arrays go."""
        super().forget_slots()
        self._traits = array("Q")
        self._keys = []
        self._pool = []
        self._narrow_pool = []

    def succeed(self, before: Policy) -> None:
        """Take the slots over; what is in them is told by `know`."""
        super().succeed(before)
        self._traits = array("Q", [_NOWHERE]) * len(self.ticks)
        self._keys = [None] * len(self.ticks)
        self._clock = InflationClock(self._tick)

    def know(self, data: PartitionData) -> None:
        """Take in the entries of a partition little by little; nothing is known of them but when they were used."""
        if data.entries:
            self._waiting.append((data, list(data.entries)))

    def _take_in(self, count: int) -> None:
        """Take in some of the entries that were here before: 1 µs each."""
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
                traits = self._traits[slot] & (_KIND | _FREQUENCY) or _ONE_USE
                cost = min(max(1, self._cost(len(key), len(entry))), _MAX_COST)
                home = data.number << _HOME_SHIFT
                self._traits[slot] = cost << _COST_SHIFT | home | _IN_SAMPLE | traits
                self._keys[slot] = key

    def enlist(self, data: PartitionData) -> None:
        """`data` is evictable and has entries (call again whenever one of the two becomes true)."""
        self._of[data.number] = data
        self._evictable[data.number] = 1
        self._narrow = None

    def forget(self, partition: int) -> None:
        """The partition is gone or no longer evictable."""
        self._of.pop(partition, None)
        self._evictable[partition] = 0
        self._narrow = None

    def grown(self, entries: int, used_bytes: int) -> None:
        """There are about so many evictable entries now, of `used_bytes`: whether, and how thinly, to sample."""
        self._entries = entries
        shift = (entries // SAMPLED).bit_length()
        shadows = self._shadows
        # What the shadows see must not be thinned out once more.
        self._is_empty = shadows is None and _EMPTY * used_bytes <= self.share_bytes
        if shadows is None or shift > shadows.shift or shift + _THINNER < shadows.shift:
            self._shift = shift
        if shadows is None:
            if 2 * used_bytes <= self.share_bytes:
                return
            self._model.begin(self._tick)
            self._shadows = ShadowCaches(shift, self._tick, self._model, self._rule)
        elif shift > shadows.shift:
            shadows.thin_out(shift)
        elif shift + _THINNER < shadows.shift:
            self._shadows = ShadowCaches(shift, self._tick, self._model, self._rule)
        self._ghosts.fit(entries)

    def victim(self, among: Container[int] | None) -> Victim | None:
        """One of the entries worth least, of those looked at; it stays until it is used or removed."""
        if among is None:
            pool = self._pool
        else:
            if among is not self._narrow or not isinstance(among, frozenset):
                self._narrow_pool = []
                self._narrow = among
            pool = self._narrow_pool
        while True:
            if not pool or (among is None and self._left <= 0):
                self._look(pool, among)
                if not pool:
                    return None
            candidate = pool[-1]
            slot = candidate.slot
            found = None if self.ticks[slot] != candidate.tick else self._entry_at(slot)
            if found is not None:
                self._left = max(1, self._left)  # asked again, the answer is the same
                if self._rule == FREQUENCY:
                    self._clock.raise_to(candidate.score, self._tick)
                return found
            pool.pop()
            if among is None:
                self._left -= 1

    def _entry_at(self, slot: int) -> Victim | None:
        """What is in the slot, if it is evictable."""
        key = self._keys[slot]
        data = self._of.get(self._traits[slot] >> _HOME_SHIFT & _HOME_MASK)
        if key is None or data is None:
            return None
        entry = data.entries.get(key)
        if entry is None or unpack_slot(entry)[0] != slot:
            return None
        return data, key, entry

    def _use(self, slot: int, key: bytes) -> None:
        ticks = self.ticks
        tick = self._tick + 1
        self._tick = tick
        # Compiled, an index into an array is an object: one for all.
        place: Any = slot
        if self._is_empty:
            # By chance, and not one tick in four: what is asked for in turns would always have the same ones.
            self._seed = seed = (self._seed * _LCG_FACTOR + _LCG_STEP) & _LCG_MASK
            if seed >= _LEARNT:
                ticks[place] = tick
                return
        before: int = ticks[place]
        octave = (tick - before + 1).bit_length() - 1
        ticks[place] = tick
        if octave > MAX_OCTAVE:
            octave = MAX_OCTAVE
        elif octave < 0:  # an entry that is loaded again
            octave = 0
        traits: int = self._traits[place]
        if traits & _FREQUENCY != _FREQUENCY:
            traits += _ONE_USE
        self._traits[place] = traits & ~_KIND | _AFTER[traits & _KIND] | octave
        if traits & _IN_SAMPLE and self._shadows is not None:
            digest = hash_of(key)
            if is_sampled(digest, self._shift):
                self._observe(digest, max(1, traits >> _COST_SHIFT))
            else:
                self._traits[slot] &= ~_IN_SAMPLE

    def _observe(self, place: int, cost: int) -> None:
        """A sampled key is used."""
        shadows = self._shadows
        if shadows is None or self._tick < LOADED_TICKS:
            return
        shadows.access(place, cost, self._tick, self.share_bytes >> shadows.shift)
        if shadows.best != self._rule:
            if self._rule != FREQUENCY:
                self._clock.raise_to(shadows.inflation, self._tick)
            self._rule = shadows.best
            self._pool = []
            self._narrow_pool = []

    def _look(self, pool: list[Candidate], among: Container[int] | None) -> None:
        """Take entries of some more slots into `pool`, the least last, of which it keeps the lower part."""
        looks = min(_LOOKED_AT, max(_LOOKS, self._entries // 8))
        slots = len(self.ticks)
        found = 0
        if slots:
            for _ in range(looks * _MOST_SKIPPED // _RUN):
                self._seed = seed = (self._seed * _LCG_FACTOR + _LCG_STEP) & _LCG_MASK
                first = seed % slots
                for slot in range(first, min(first + _RUN, slots)):
                    found += self._look_at(slot, pool, looks, among)
                if found >= looks:
                    break
        if not found and self._waiting:
            self._take_in(_TAKEN_IN * _LOOKED_AT)
        if not found:
            self._look_in_partitions(pool, looks, among)
        if among is None:
            self._left = max(1, looks // _LOOKS)

    def _look_in_partitions(
        self, pool: list[Candidate], looks: int, among: Container[int] | None
    ) -> None:
        """The same where hardly any slot is that of an evictable entry."""
        found = 0
        for data in self._of.values():
            for entry in islice(data.entries.values(), looks - found):
                found += self._look_at(unpack_slot(entry)[0], pool, looks, among)
            if found >= looks:
                break

    def _look_at(
        self, slot: int, pool: list[Candidate], most: int, among: Container[int] | None
    ) -> int:
        """Take the entry in the slot into `pool` if it is worth less than the best there; 1 if there is an evictable one."""
        traits = self._traits[slot]
        home = traits >> _HOME_SHIFT & _HOME_MASK
        if home == _HOME_MASK or not self._evictable[home]:
            return 0
        if among is not None and home not in among:
            return 0
        tick = self.ticks[slot]
        worth = score(
            self._rule,
            tick,
            self._tick,
            (traits & _FREQUENCY) >> 8,
            traits & _KIND,
            float(traits >> _COST_SHIFT),
            self._model.values,
            self._clock,
        )
        if tick < LOADED_TICKS:
            worth *= tick / LOADED_TICKS  # nothing is known of loaded entries but their order
        if len(pool) >= most:
            if worth >= pool[0].score:
                return 1
            del pool[0]
        low, high = 0, len(pool)
        while low < high:
            middle = (low + high) >> 1
            if pool[middle].score > worth:
                low = middle + 1
            else:
                high = middle
        pool.insert(low, Candidate(worth, slot, tick))
        return 1
