"""Which of the three rules of eviction hits most lately, by how often each would have hit."""

from __future__ import annotations

import math
from typing import Final

from aux.storage.scoring import RULES

_ALL: Final = (1 << RULES) - 1

_HORIZON: Final = 10.0
"""Hits fade by a factor of e in the time of so many accesses for each entry."""

_MARGIN: Final = 0.003
"""By how much more of the requests another rule must hit to be taken."""

_SIGMAS: Final = 2.0
"""By how many standard deviations more, besides: in a small sample a rule may hit more by chance."""

_MAX_UNIT: Final = 1e12


class RuleContest:
    """`best`: the rule to go by. It changes once another leads by a margin that chance does not explain."""

    __slots__ = ("_counted", "_hits", "_unit", "_variances", "_weight", "best")

    def __init__(self, best: int) -> None:
        self.best = best
        self._hits = [0.0] * RULES
        self._weight = 0.0
        self._variances = [0.0] * RULES
        self._unit = 1.0
        self._counted = 0

    def count(self, inside: int, entries: int) -> None:
        """An access to a key that the caches in `inside` hold, bit by bit; `entries`: of a cache."""
        # Later hits weigh more, instead of earlier ones less: one addition.
        self._unit = unit = self._unit * (1 + 1 / (_HORIZON * max(100, entries)))
        self._weight += unit
        hits = self._hits
        if inside & 1:
            hits[0] += unit
        if inside & 2:
            hits[1] += unit
        if inside & 4:
            hits[2] += unit
        if inside not in {0, _ALL}:
            unlike = inside ^ (_ALL if inside >> self.best & 1 else 0)
            for rule in range(RULES):
                if unlike >> rule & 1:
                    self._variances[rule] += unit * unit
        self._counted += 1
        if self._counted & 15:
            return
        best, before = self.best, self.best
        least = hits[before] + _MARGIN * self._weight
        for rule in range(RULES):
            ahead = hits[rule] - least - _SIGMAS * math.sqrt(self._variances[rule])
            if ahead > 0 and (best == before or hits[rule] > hits[best]):
                best = rule
        if best != before:
            self.best = best
            self._variances = [0.0] * RULES
        if unit > _MAX_UNIT:
            self._hits = [value / unit for value in hits]
            self._weight /= unit
            self._variances = [value / unit / unit for value in self._variances]
            self._unit = 1.0
