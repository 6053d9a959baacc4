"""A model of the adaptive policy: three caches, one for each of its rules, over one table of keys, all in arrays.

It does what `aux/storage/shadow_caches.py` does to find the rule that hits most, in a quarter of the memory; what it says hits is
what the best rule holds. Its third cache is an exact LRU.
"""

from __future__ import annotations

from array import array
from bisect import insort
from typing import Final

from aux.advice.compact_reuse import ReuseValues
from aux.advice.miniature import HIT, LRU_HIT, Miniature, place_of
from aux.storage.reuse_model import reused
from aux.storage.rule_contest import RuleContest
from aux.storage.scoring import FREQUENCY, RECENCY, REUSE, InflationClock
from aux.storage.shadow_caches import MAX_FREQUENCY

_NONE: Final = (1 << 32) - 1
_IN_RECENCY: Final = 1 << RECENCY
_FREQUENCY_SHIFT: Final = 8
_KIND: Final = 0xFF
_FREE: Final = 8
"""What `_inside` has of a slot without a key."""

_LOOKS: Final = 12
_LOOKED_AT: Final = 96
_REMEMBERED: Final = 2
"""Slots for keys, for each key that a cache should hold: some have been evicted, and are remembered."""


class _Looked:
    """One of the caches that choose among some entries looked at."""

    __slots__ = ("bit", "clock", "held", "left", "places", "pool", "rule", "seed", "used")

    def __init__(self, rule: int, slots: int, began: int) -> None:
        self.rule = rule
        self.bit = 1 << rule
        self.held = array("I")
        self.places = array("I", bytes(4 * slots))
        self.used = 0
        self.clock = InflationClock(began)
        self.pool: list[tuple[float, int, int]] = []
        self.left = 0
        self.seed = 12345


class RuleMiniature(Miniature):
    """`most`: keys that a cache should hold. `teaches`: what it sees is told to `model`, which is its own."""

    __slots__ = (
        "_chain",
        "_contest",
        "_costs",
        "_first",
        "_free",
        "_hand",
        "_heads",
        "_inside",
        "_is_full",
        "_keys",
        "_last",
        "_looked",
        "_mask",
        "_model",
        "_most",
        "_next",
        "_previous",
        "_recent",
        "_recent_bytes",
        "_slots",
        "_teaches",
        "_ticks",
        "_traits",
    )

    def __init__(self, most: int, model: ReuseValues, now: int, *, teaches: bool) -> None:
        super().__init__()
        self._most = most
        self._model = model
        self._teaches = teaches
        self._slots = slots = _REMEMBERED * most
        self._mask = (1 << most.bit_length()) - 1
        self._heads = array("I", [_NONE]) * (self._mask + 1)
        self._chain = array("I", bytes(4 * slots))
        self._keys = array("Q", bytes(8 * slots))
        self._ticks = array("Q", bytes(8 * slots))
        self._costs = array("I", bytes(4 * slots))
        self._traits = array("H", bytes(2 * slots))
        self._inside = bytearray([_FREE]) * slots
        self._next = array("I", bytes(4 * slots))
        self._previous = array("I", bytes(4 * slots))
        self._first = self._last = _NONE
        self._recent = self._recent_bytes = 0
        self._free = array("I", range(slots - 1, -1, -1))
        self._hand = 0
        self._is_full = False
        self._looked = [_Looked(FREQUENCY, slots, now), _Looked(REUSE, slots, now)]
        self._contest = RuleContest(FREQUENCY)

    @property
    def entries(self) -> int:
        return self._recent

    @property
    def used_bytes(self) -> int:
        return self._recent_bytes

    @property
    def is_crowded(self) -> bool:
        return self._is_full or max(self._recent, *(len(c.held) for c in self._looked)) > self._most

    def read(self, key: int, cost: int, now: int) -> int:
        inside = self._use(key, cost, now)
        if inside < 0:
            return 0
        # The rule of the moment is taken before this access changes it.
        found = HIT if inside >> self._contest.best & 1 else 0
        self._contest.count(inside, self._recent)
        return found | (LRU_HIT if inside & _IN_RECENCY else 0)

    def fill(self, key: int, cost: int, now: int) -> None:
        slot = self._find(key)
        if slot == _NONE:
            self._use(key, cost, now)
            return
        self._resize(slot, cost)
        self._keep(slot, now)

    def write(self, key: int, cost: int, now: int) -> None:
        inside = self._use(key, cost, now)
        if inside >= 0:
            self._contest.count(inside, self._recent)

    def remove(self, key: int) -> None:
        slot = self._find(key)
        if slot != _NONE:
            self._forget(slot)

    def fit(self, share_bytes: int) -> None:
        self.share_bytes = share_bytes
        self._shrink(0)

    def thin_out(self, threshold: int) -> None:
        self.threshold = threshold
        self._is_full = False
        for slot in range(self._slots):
            if self._inside[slot] != _FREE and place_of(self._keys[slot]) >= threshold:
                self._forget(slot)

    # The table of keys.

    def _find(self, key: int) -> int:
        slot = self._heads[key >> 16 & self._mask]
        keys, chain = self._keys, self._chain
        while slot != _NONE and keys[slot] != key:
            slot = chain[slot]
        return slot

    def _new(self, key: int, now: int) -> int:
        """A slot for `key`; `_NONE` if all are taken by keys that are held."""
        if not self._free:
            self._forget_one()
            if not self._free:
                self._is_full = True
                return _NONE
        slot = self._free.pop()
        at = key >> 16 & self._mask
        self._chain[slot] = self._heads[at]
        self._heads[at] = slot
        self._keys[slot] = key
        self._ticks[slot] = now
        self._traits[slot] = 0
        self._inside[slot] = 0
        self._costs[slot] = 0
        return slot

    def _forget_one(self) -> None:
        """Forget a key that no cache holds, going round."""
        inside = self._inside
        at = inside.find(0, self._hand)
        if at < 0:
            at = inside.find(0)
        if at >= 0:
            self._hand = at + 1
            self._forget(at)

    def _forget(self, slot: int) -> None:
        if self._inside[slot] & _IN_RECENCY:
            self._unlink(slot)
        for cache in self._looked:
            if self._inside[slot] & cache.bit:
                self._let_go(cache, slot)
        at = self._keys[slot] >> 16 & self._mask
        chain = self._chain
        if self._heads[at] == slot:
            self._heads[at] = chain[slot]
        else:
            before = self._heads[at]
            while chain[before] != slot:
                before = chain[before]
            chain[before] = chain[slot]
        self._ticks[slot] = 0
        self._inside[slot] = _FREE
        self._free.append(slot)

    # Uses.

    def _use(self, key: int, cost: int, now: int) -> int:
        """A use; which caches held the key, bit by bit. -1 if it is too large for all of them."""
        slot = self._find(key)
        is_new = slot == _NONE
        if is_new:
            slot = self._new(key, now) if cost else _NONE
            if slot == _NONE:
                return 0
        inside = self._inside[slot]
        self._characterize(slot, now, is_new=is_new)
        if cost:
            self._resize(slot, cost)
        if self._costs[slot] > self.share_bytes:
            return -1
        if cost:
            self._keep(slot, now)
        elif inside & _IN_RECENCY:
            self._unlink(slot)
            self._link(slot)
        if self._teaches and self._model.is_due(now):
            self._model.learn(now, self._recent * self._scale())
        return inside

    def _characterize(self, slot: int, now: int, *, is_new: bool) -> None:
        """What a use tells of a key: its class, and how often it is used."""
        model = self._model
        traits = self._traits[slot]
        kind, frequency = traits & _KIND, traits >> _FREQUENCY_SHIFT
        if not is_new:
            age = max(0, now - self._ticks[slot])
            if self._teaches:
                model.reused(kind, age)
            kind = reused(kind, age)
            if not self._inside[slot]:
                frequency = frequency * 3 // 4
        if self._teaches:
            model.used(kind)
        self._traits[slot] = min(MAX_FREQUENCY, frequency + 1) << _FREQUENCY_SHIFT | kind
        self._ticks[slot] = now

    def _scale(self) -> int:
        return max(1, (1 << 24) // max(1, self.threshold))

    def _resize(self, slot: int, cost: int) -> None:
        change = cost - self._costs[slot]
        if not change:
            return
        inside = self._inside[slot]
        for cache in self._looked:
            if inside & cache.bit:
                cache.used += change
        if inside & _IN_RECENCY:
            self._recent_bytes += change
        self._costs[slot] = cost

    def _keep(self, slot: int, now: int) -> None:
        """Hold it in every cache."""
        cost = self._costs[slot]
        if cost > self.share_bytes:
            return
        for cache in self._looked:
            if not self._inside[slot] & cache.bit:
                self._inside[slot] |= cache.bit
                cache.places[slot] = len(cache.held)
                cache.held.append(slot)
                cache.used += cost
        if self._inside[slot] & _IN_RECENCY:
            self._unlink(slot)
        self._link(slot)
        self._shrink(now)

    def _shrink(self, now: int) -> None:
        share = self.share_bytes
        for cache in self._looked:
            while cache.used > share and len(cache.held):
                self._evict(cache, now)
        while self._recent_bytes > share and self._first != _NONE:
            self._unlink(self._first)

    def _link(self, slot: int) -> None:
        last = self._last
        self._previous[slot] = last
        self._next[slot] = _NONE
        if last == _NONE:
            self._first = slot
        else:
            self._next[last] = slot
        self._last = slot
        self._inside[slot] |= _IN_RECENCY
        self._recent += 1
        self._recent_bytes += self._costs[slot]

    def _unlink(self, slot: int) -> None:
        before, after = self._previous[slot], self._next[slot]
        if before == _NONE:
            self._first = after
        else:
            self._next[before] = after
        if after == _NONE:
            self._last = before
        else:
            self._previous[after] = before
        self._inside[slot] &= ~_IN_RECENCY
        self._recent -= 1
        self._recent_bytes -= self._costs[slot]

    def _let_go(self, cache: _Looked, slot: int) -> None:
        self._inside[slot] &= ~cache.bit
        cache.used -= self._costs[slot]
        last = cache.held.pop()
        if last != slot:
            place = cache.places[slot]
            cache.held[place] = last
            cache.places[last] = place

    def _evict(self, cache: _Looked, now: int) -> None:
        """Drop one of those that are worth least. It must hold one."""
        while True:
            if cache.left <= 0 or not cache.pool:
                self._look(cache, now)
            worth, slot, tick = cache.pool.pop()
            if not self._inside[slot] & cache.bit or self._ticks[slot] != tick:
                continue
            cache.left -= 1
            cache.clock.raise_to(-worth, max(now, tick))
            self._let_go(cache, slot)
            return

    def _look(self, cache: _Looked, now: int) -> None:
        """Look at some more; the pool keeps the lower part, the least last."""
        held, count = cache.held, len(cache.held)
        looks = min(_LOOKED_AT, max(_LOOKS, count // 8))
        pool, model, clock = cache.pool, self._model, cache.clock
        for _ in range(looks):
            cache.seed = seed = (cache.seed * 1103515245 + 12345) & 0x7FFFFFFF
            slot = held[(seed >> 8) % count]
            tick, traits = self._ticks[slot], self._traits[slot]
            cost = float(self._costs[slot])
            # `score` in `aux/storage/scoring.py`, over values that are not in a list.
            if cache.rule == REUSE:
                worth = -model.value(traits & _KIND, max(0, now - tick)) / cost
            else:
                worth = -clock.at(tick) - (traits >> _FREQUENCY_SHIFT) / cost
            if len(pool) >= looks:
                if worth <= pool[0][0]:
                    continue
                del pool[0]
            insort(pool, (worth, slot, tick))
        cache.left = max(1, looks // _LOOKS)
