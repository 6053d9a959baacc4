"""Which rule of eviction would hit most: three caches without values, run side by side on a sample of the keys.

Sampling by hash scales the cache down with its load (Waldspurger et al., "Cache modeling and optimization using miniature
simulations", ATC 2017).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from aux.storage.reuse_model import NEW, ReuseModel, reused
from aux.storage.rule_contest import RuleContest
from aux.storage.scoring import (
    FREQUENCY,
    RECENCY,
    REUSE,
    InflationClock,
    score,
)

SAMPLED: Final = 2048
"""Entries of which the sample consists, at most: with more, keys are sampled more thinly."""

MAX_FREQUENCY: Final = 15

_REMEMBERED: Final = 4
"""Keys that are followed, for each key in a cache."""

_LOOKS: Final = 12
_LOOKED_AT: Final = 96


class Followed:
    """A key of the sample. `inside`: bit by bit, which caches hold it. `places`: where, in those that sample."""

    __slots__ = ("cost", "frequency", "inside", "key", "kind", "places", "tick")

    def __init__(self, key: int) -> None:
        self.key = key
        self.tick = -1
        self.cost = 1
        self.kind = NEW
        self.frequency = 0
        self.inside = 0
        self.places = [0, 0]


class Candidate:
    """What a cache looked at, as it was then."""

    __slots__ = ("followed", "score", "tick")

    def __init__(self, worth: float, followed: Followed) -> None:
        self.score = worth
        self.followed = followed
        self.tick = followed.tick


class SampledCache:
    """One of the caches that choose among some entries looked at."""

    __slots__ = ("_left", "_pool", "_rule", "_seed", "bit", "clock", "held", "used")

    def __init__(self, rule: int, began: int) -> None:
        self.held: list[Followed] = []
        self.used = 0
        self.clock = InflationClock(began)
        self._rule = rule
        self.bit = 1 << rule
        self._pool: list[Candidate] = []
        self._left = 0
        self._seed = 12345

    def add(self, followed: Followed) -> None:
        """Hold it."""
        followed.inside |= self.bit
        followed.places[self._rule] = len(self.held)
        self.held.append(followed)
        self.used += followed.cost

    def drop(self, followed: Followed) -> None:
        """Hold it no more."""
        followed.inside &= ~self.bit
        self.used -= followed.cost
        last = self.held.pop()
        if last is not followed:
            place = followed.places[self._rule]
            self.held[place] = last
            last.places[self._rule] = place

    def evict(self, now: int, values: list[float]) -> None:
        """Drop one of those that are worth least. It must hold one."""
        while True:
            if self._left <= 0 or not self._pool:
                self._look(now, values)
            candidate = self._pool.pop()
            followed = candidate.followed
            if not followed.inside & self.bit or followed.tick != candidate.tick:
                continue
            self._left -= 1
            self.clock.raise_to(candidate.score, now)
            self.drop(followed)
            return

    def _look(self, now: int, values: list[float]) -> None:
        held, count = self.held, len(self.held)
        looks = min(_LOOKED_AT, max(_LOOKS, count // 8))
        pool = self._pool
        for _ in range(looks):
            self._seed = seed = (self._seed * 1103515245 + 12345) & 0x7FFFFFFF
            f = held[(seed >> 8) % count]
            worth = score(
                self._rule, f.tick, now, f.frequency, f.kind, float(f.cost), values, self.clock
            )
            if len(pool) >= looks:
                if worth >= pool[0].score:
                    continue
                del pool[0]
            low, high = 0, len(pool)
            while low < high:
                middle = (low + high) >> 1
                if pool[middle].score > worth:
                    low = middle + 1
                else:
                    high = middle
            pool.insert(low, Candidate(worth, f))
        self._left = max(1, looks // _LOOKS)


class ShadowCaches:
    """Follows the accesses to sampled keys; `best` is the rule that hits most. Also teaches `model`, with what it sees.

    `shift`: one key in 2**shift is sampled.
    """

    __slots__ = (
        "_contest",
        "_followed",
        "_recent",
        "_recent_bytes",
        "_sampled",
        "best",
        "model",
        "shift",
    )

    def __init__(self, shift: int, now: int, model: ReuseModel, best: int) -> None:
        self.shift = shift
        self.best = best
        self.model = model
        self._followed: dict[int, Followed] = {}
        self._recent: OrderedDict[int, Followed] = OrderedDict()
        self._recent_bytes = 0
        self._sampled = [SampledCache(FREQUENCY, now), SampledCache(REUSE, now)]
        self._contest = RuleContest(best)

    @property
    def inflation(self) -> float:
        """The value of what was evicted last where frequency decides."""
        return self._sampled[FREQUENCY].clock.value

    def thin_out(self, shift: int) -> None:
        """Sample one key in 2**`shift` from now on, more thinly than before."""
        self.shift = shift
        gone = [key for key in self._followed if not is_sampled(key, shift)]
        for key in gone:
            self._drop(self._followed.pop(key))

    def access(self, key: int, cost: int, now: int, share_bytes: int) -> None:
        """The sampled key whose hash is `key` is read or written, for `cost` bytes, at access `now`."""
        f = self._followed.pop(key, None)
        model = self.model
        if f is None:
            f = Followed(key)
        else:
            age = now - f.tick
            model.reused(f.kind, age)
            f.kind = reused(f.kind, age)
            if not f.inside:
                f.frequency = f.frequency * 3 // 4
        self._followed[key] = f
        model.used(f.kind)
        f.frequency = min(MAX_FREQUENCY, f.frequency + 1)
        if cost != f.cost:
            self._resize(f, cost)
        f.tick = now
        if cost > share_bytes:
            return
        contest = self._contest
        contest.count(f.inside, len(self._recent))
        self.best = contest.best
        self._keep(f, now, share_bytes)
        if len(self._followed) > _REMEMBERED * (len(self._recent) + 16):
            self._forget()
        if model.is_due(now):
            model.learn(now, len(self._recent) << self.shift)

    def _keep(self, f: Followed, now: int, share_bytes: int) -> None:
        values = self.model.values
        for cache in self._sampled:
            if not f.inside & cache.bit:
                cache.add(f)
            while cache.used > share_bytes:
                cache.evict(now, values)
        recent = self._recent
        if f.inside & 1 << RECENCY:
            recent.move_to_end(f.key)
        else:
            f.inside |= 1 << RECENCY
            self._recent_bytes += f.cost
            recent[f.key] = f
        while self._recent_bytes > share_bytes:
            _, gone = recent.popitem(last=False)
            gone.inside &= ~(1 << RECENCY)
            self._recent_bytes -= gone.cost

    def _resize(self, f: Followed, cost: int) -> None:
        change = cost - f.cost
        for cache in self._sampled:
            if f.inside & cache.bit:
                cache.used += change
        if f.inside & 1 << RECENCY:
            self._recent_bytes += change
        f.cost = cost

    def _drop(self, f: Followed) -> None:
        for cache in self._sampled:
            if f.inside & cache.bit:
                cache.drop(f)
        if f.inside & 1 << RECENCY:
            del self._recent[f.key]
            f.inside &= ~(1 << RECENCY)
            self._recent_bytes -= f.cost

    def _forget(self) -> None:
        """Follow the older half of what no cache holds no more."""
        for key in [k for k, f in self._followed.items() if not f.inside][
            : len(self._followed) // 2
        ]:
            del self._followed[key]


def is_sampled(key: int, shift: int) -> bool:
    """Whether the key whose hash is `key` belongs to one in 2**`shift`: those of more bits are among those of fewer."""
    return not key >> 40 & ((1 << shift) - 1)
