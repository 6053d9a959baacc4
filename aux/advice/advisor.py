"""The cache size advisor of a node: feeds models of other sizes and policies with a sample of the keys, within bounds.

Each model has a sample of its own, as large as it may be: where it holds too many keys its threshold is lowered. If all of them take
more than `MOST_SHARE` of a processor, all thresholds are lowered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final

from aux.advice.compact_reuse import CompactReuse, NodeReuse
from aux.advice.miniature import PLACES, Miniature, PolicyMiniature, SlotEntries
from aux.advice.model import FULL, Estimate, Model, Totals
from aux.advice.rule_miniature import RuleMiniature
from aux.advice.tally import GROUPS
from aux.storage.adaptive import Adaptive
from aux.storage.partition_data import PartitionData
from aux.storage.store import Store
from ringmaster.config.eviction import POLICIES
from ringmaster.protocol.entry import FLAGS_OFFSET, META, expires_ms_of, meta_of
from ringmaster.protocol.hashing import hash_of

SIZES: Final = [0.5, 1.0, 2.0, 4.0]
"""Of what the node's entries may take, at every one of which the policy of the cluster is modelled."""

RULE_KEYS: Final = 512
POLICY_KEYS: Final = 576
"""Keys of a model, at most: all of them together stay below 1 MiB (`tests/unit/aux/advice/test_advisor.py` measures it)."""

MOST_SHARE: Final = 0.01
"""Of a processor's time."""

WINDOW_S: Final = 1800.0
"""An answer is about the last one to two times so long."""

_CLASS_BITS: Final = 4
_LEAST_PARTITIONS: Final = 16
"""Reads are told apart by class of partition first, as long as a class has so many partitions."""

_GOLDEN: Final = 0x9E3779B1
_PLACE_BITS: Final = 24
_REST: Final = (1 << 40) - 1
_GROUP_SHIFT: Final = 24
_THINNER: Final = 0.8
_LOOK_MASK: Final = 31
_MOST_DEBT_S: Final = 0.05
_MOST_MISSED: Final = 256
_MOST_DATED: Final = 512


class Advisor:
    """Call `read` and the others only for keys of partitions that are `sampled`; `tick` once a second.

    `totals()`: what the node counted. `boottime()`: seconds. `now_ms()`: cluster time. `timer()`: seconds, of any beginning, to
    measure what this takes.
    """

    def __init__(
        self,
        store: Store,
        totals: Callable[[], Totals],
        boottime: Callable[[], float],
        now_ms: Callable[[], int],
        timer: Callable[[], float],
    ) -> None:
        self.models: list[Model] = []
        self.spent_s = 0.0
        self.sampled_reads = 0
        self._store = store
        self._totals = totals
        self._boottime = boottime
        self._now_ms = now_ms
        self._timer = timer
        self._entries = SlotEntries()
        self._highest = 0
        self._class_bits = 0
        # Primaries by class of partition.
        self._classes: list[int] = [0]
        self._primaries = 0
        self._policy = ""
        self._nodes = 0
        self._share = 0.0
        # Keys of which a read found nothing, and which may be written next.
        self._missed: set[int] = set()
        # When sampled keys are gone, by cluster time.
        self._dated: dict[int, int] = {}
        self._looks = 0
        self._ticked = boottime()
        self._ticked_spent = 0.0
        self._debt_s = 0.0
        self._turned = self._began = self._ticked

    # What happens to keys.

    def missed(self, data: PartitionData, key: bytes, dead: bytes | None) -> None:
        """A read of `key` found nothing, or an entry that is `dead`: then no cache has it any more."""
        if dead is not None:
            self.removed(data, key)
        self.read(data, key, None)

    def read(self, data: PartitionData, key: bytes, entry: bytes | None, times: int = 1) -> None:
        """`key` was read: `entry` was found, or nothing. `times`: so often, one after another."""
        digest = hash_of(key)
        place = self._place(data, digest)
        if place >= self._highest:
            return
        began = self._timer()
        name = place << 40 | digest & _REST
        group = digest >> _GROUP_SHIFT & GROUPS - 1
        self._drop_if_gone(name)
        cost = 0
        if entry is not None:
            cost = self._cost(name, key, entry)
        else:
            if len(self._missed) >= _MOST_MISSED:
                self._missed.clear()
            self._missed.add(name)
        uses = self._totals().uses
        for model in self.models:
            miniature = model.miniature
            if place < miniature.threshold:
                found = miniature.read(name, cost, uses)
                model.count(group, found, times, missed=entry is None)
        self.sampled_reads += times
        self._spend(began)

    def wrote(self, data: PartitionData, key: bytes, entry: bytes | None) -> None:
        """`entry` was written, or (None) what was there was deleted."""
        if entry is None:
            self.removed(data, key)
            return
        digest = hash_of(key)
        place = self._place(data, digest)
        if place >= self._highest:
            return
        began = self._timer()
        name = place << 40 | digest & _REST
        self._drop_if_gone(name)
        cost = self._cost(name, key, entry)
        fills = name in self._missed
        self._missed.discard(name)
        uses = self._totals().uses
        for model in self.models:
            miniature = model.miniature
            if place >= miniature.threshold:
                continue
            if fills:
                miniature.fill(name, cost, uses)
            else:
                miniature.write(name, cost, uses)
        self._spend(began)

    def removed(self, data: PartitionData, key: bytes) -> None:
        """`key` was deleted, or found to be expired or invalidated: no cache has it any more."""
        digest = hash_of(key)
        place = self._place(data, digest)
        if place < self._highest:
            self._remove(place << 40 | digest & _REST)

    def _place(self, data: PartitionData, digest: int) -> int:
        """The class of the partition is the upper part of a key's place: so most reads need no hash of the key."""
        bits = self._class_bits
        place = digest >> 40
        return _class_of(data.number, bits) << _PLACE_BITS - bits | place >> bits

    def _cost(self, name: int, key: bytes, entry: bytes) -> int:
        expires_ms = expires_ms_of(entry)
        if expires_ms:
            if entry[FLAGS_OFFSET] & META:
                expires_ms += meta_of(entry).swr_ms
            if len(self._dated) >= _MOST_DATED:
                now_ms = self._now_ms()
                self._dated = {each: at for each, at in self._dated.items() if at > now_ms}
            if len(self._dated) < _MOST_DATED or name in self._dated:
                self._dated[name] = expires_ms
        elif self._dated:
            self._dated.pop(name, None)
        return self._store.cost_of(key, entry)

    def _drop_if_gone(self, name: int) -> None:
        if self._dated:
            gone_ms = self._dated.get(name)
            if gone_ms is not None and self._now_ms() >= gone_ms:
                self._remove(name)

    def _remove(self, name: int) -> None:
        self._dated.pop(name, None)
        for model in self.models:
            model.miniature.remove(name)

    # Bounds.

    def _spend(self, began: float) -> None:
        self.spent_s += self._timer() - began
        self._looks += 1
        if not self._looks & _LOOK_MASK:
            self._thin_crowded()
            spent = self.spent_s - self._ticked_spent
            if self._debt_s + spent > _MOST_DEBT_S + MOST_SHARE * (self._boottime() - self._ticked):
                self._thin_all()

    def _thin_crowded(self) -> None:
        for model in self.models:
            if model.miniature.is_crowded:
                self._thin(model, _THINNER)

    def _thin_all(self) -> None:
        """Half as many keys, because they take too long."""
        self._debt_s = 0.0
        self._ticked, self._ticked_spent = self._boottime(), self.spent_s
        for model in self.models:
            self._thin(model, 0.5)

    def _thin(self, model: Model, by: float) -> None:
        model.miniature.thin_out(max(1, int(model.miniature.threshold * by)))
        self._fit(model)
        self._find_highest()

    def _fit(self, model: Model) -> None:
        rate = self._rate(model.miniature.threshold)
        model.weight = 1 / rate if rate else 0.0
        model.miniature.fit(int(self._share * model.memory * rate))

    def _find_highest(self) -> None:
        self._highest = max((model.miniature.threshold for model in self.models), default=0)

    def _rate(self, threshold: int) -> float:
        """The share of the node's keys that are below `threshold`."""
        if not self._primaries:
            return 0.0
        span = PLACES >> self._class_bits
        found = 0.0
        for number, primaries in enumerate(self._classes):
            found += primaries * min(1.0, max(0.0, threshold / span - number))
        return found / self._primaries

    # Now and then.

    def tick(self, datas: Iterable[PartitionData], nodes: int) -> None:
        """`datas`: of the partitions that this node serves. `nodes`: that the cluster has."""
        now = self._boottime()
        elapsed = now - self._ticked
        spent = self.spent_s - self._ticked_spent
        self._debt_s = max(0.0, self._debt_s + spent - MOST_SHARE * elapsed)
        self._ticked, self._ticked_spent = now, self.spent_s
        served = list(datas)
        self._primaries = len(served)
        bits = min(_CLASS_BITS, max(0, (len(served) // _LEAST_PARTITIONS).bit_length() - 1))
        # A class may become small before all begins anew.
        if bits > self._class_bits or bits + 1 < self._class_bits:
            self.models = []
            self._class_bits = bits
        if self._policy != self._store.policy.name or self._nodes != nodes or not self.models:
            self._choose_models(nodes)
        self._survey(served)
        for model in self.models:
            self._fit(model)
            if model.filled >= FULL:
                model.has_filled = True
        if now - self._turned >= WINDOW_S:
            self._turned = now
            for model in self.models:
                model.turn(self._totals())
                self._see_more(model)

    def _survey(self, served: list[PartitionData]) -> None:
        """Which partitions are sampled, and what entries may take beside the tables that they are in."""
        bits = self._class_bits
        self._classes = [0] * (1 << bits)
        span = PLACES >> bits
        used = tables = 0
        for data in served:
            number = _class_of(data.number, bits)
            self._classes[number] += 1
            data.sampled = number * span < self._highest
            used += data.bytes
            tables += data.table_bytes
        share = float(self._store.primary_share)
        self._share = share * (used - tables) / used if used > tables else share

    def _choose_models(self, nodes: int) -> None:
        """One for each size, and one for each policy; those that there are go on."""
        policy = self._store.policy.name
        if policy != self._policy:
            self.models = []
        self._policy, self._nodes = policy, nodes
        wanted = [(policy, memory) for memory in sizes(nodes)]
        # What models the adaptive policy models LRU as well.
        others = [each for each in POLICIES if each not in (policy, "lru")]
        wanted += [(each, 1.0) for each in others]
        known = {(model.policy, model.memory): model for model in self.models}
        now = self._totals()
        self.models = [
            known.get(each) or Model(*each, self._miniature(each[0], now.uses), now)
            for each in wanted
        ]
        self._find_highest()

    def _miniature(self, policy: str, uses: int) -> Miniature:
        if policy != "adaptive":
            return PolicyMiniature(policy, POLICY_KEYS, self._entries)
        live = self._store.policy
        if isinstance(live, Adaptive):
            return RuleMiniature(RULE_KEYS, NodeReuse(live.model), uses, teaches=False)
        return RuleMiniature(RULE_KEYS, CompactReuse(uses), uses, teaches=True)

    def _see_more(self, model: Model) -> None:
        """A model that has become small, though there is time for a larger one, begins anew with more keys."""
        miniature = model.miniature
        small = miniature.entries < POLICY_KEYS // 4 and miniature.threshold < PLACES
        if small and model.filled >= FULL and not self._debt_s:
            miniature.threshold = min(PLACES, 2 * miniature.threshold)
            model.has_filled = False
            self._fit(model)
            self._find_highest()

    def estimates(self) -> list[Estimate]:
        """What is known so far."""
        now = self._totals()
        found = [each for model in self.models for each in model.estimates(now)]
        curve = sorted((each.memory, each.ratio) for each in found if each.policy == self._policy)
        for each in found:
            # The sample may be of more or fewer keys than it should be: as if it had another size.
            slope = steepness(curve, each.memory)
            each.error = math.hypot(each.error, slope / math.sqrt(max(1, each.keys)))
        return found

    def _present(self) -> Model | None:
        """What models the node as it is."""
        for model in self.models:
            if model.memory == 1.0 and model.policy == self._policy:
                return model
        return None

    def counted(self) -> tuple[int, int]:
        """Reads, and those that missed, in the time that the answer is about."""
        present, now = self._present(), self._totals()
        if present is None:
            return 0, 0
        began = present.earlier_began
        return now.reads - began.reads, now.misses - began.misses

    def sampled(self) -> int:
        """Reads of keys that the model of the node as it is has sampled."""
        present = self._present()
        return 0 if present is None else present.sampled

    @property
    def nodes(self) -> int:
        """The nodes of the cluster, as it was last told."""
        return self._nodes

    @property
    def busy_ratio(self) -> float:
        """Of a processor's time since the start, what this has taken."""
        return self.spent_s / max(1.0, self._boottime() - self._began)

    @property
    def entry_bytes(self) -> int:
        """What entries may cost now, their tables left out."""
        return int(self._share)

    @property
    def window_s(self) -> float:
        """Since when it counts, in seconds."""
        present = self._present()
        return 0.0 if present is None else self._boottime() - present.earlier_began.at


def sizes(nodes: int) -> list[float]:
    """The sizes to model: `SIZES`, and what a node has of the keys' memory with one node less and one more."""
    found = {*SIZES, (nodes + 1) / max(1, nodes)}
    if nodes > 1:
        found.add((nodes - 1) / nodes)
    return sorted(found)


def steepness(curve: list[tuple[float, float]], memory: float) -> float:
    """By how much the hit ratio changes when `memory` does by a factor of e: in the steeper of the parts of `curve` beside it."""
    steepest = 0.0
    for (less, low), (more, high) in pairwise(curve):
        if less <= memory <= more and less < more:
            steepest = max(steepest, abs(high - low) / math.log(more / less))
    return steepest


def _class_of(partition: int, bits: int) -> int:
    return (partition * _GOLDEN & 0xFFFFFFFF) >> 32 - bits
