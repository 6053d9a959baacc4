"""Keeping within the budget and the time: evictions and expiries, which only a primary may begin (R8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aux.node.counters import NodeCounters
from aux.replication.primary import Primary
from aux.storage.store import Store

MAX_SKIPPED: Final = 100
"""Victims with a write pending that are passed over before the next try."""

MAX_EVICTIONS: Final = 1000
"""Evictions at a time, about 3 ms: the rest follows with the next commands or tick."""

SWEEP_SHARE: Final = 20
"""Each tick sweeps a 20th of the served partitions for expired entries, at least one."""

_HEARD_AFTER_TICKS: Final = 2


class Eviction:
    """Evicts and expires entries of `primaries`; replicas follow by the entries this sequences."""

    def __init__(
        self,
        store: Store,
        primaries: dict[int, Primary],
        counters: NodeCounters,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._primaries = primaries
        self._counters = counters
        self._now_ms = now_ms
        self._sweep_at = 0
        self._trimming: dict[str, int] = {}

    def trim(self) -> None:
        """Evict until the primaries' entries are within their share, at most `MAX_EVICTIONS`."""
        over = self._store.over_bytes()
        if over > 0:
            self._evict(over, None)

    def trim_replica(self, node: str, over_bytes: int) -> None:
        """A replica on `node` is `over_bytes` over its share: evict entries of which it has copies.

        Half of the excess at a time, since other primaries are told the same; then nothing until it has heard of that.
        """
        if node in self._trimming:
            return
        self._trimming[node] = _HEARD_AFTER_TICKS
        among = frozenset(
            number for number, primary in self._primaries.items() if node in primary.copies
        )
        self._evict(over_bytes // 2 + 1, among)

    @property
    def is_trimming(self) -> bool:
        """Whether a node was over its share and has not heard yet of what was evicted for it."""
        return bool(self._trimming)

    def tick(self, times: int = 1) -> None:
        """Sweep the next few partitions, and trim. `times`: for how many ticks this one stands."""
        for node, ticks in list(self._trimming.items()):
            if ticks > 1:
                self._trimming[node] = ticks - 1
            else:
                del self._trimming[node]
        self._sweep(times)
        self.trim()

    def _evict(self, wanted_bytes: int, among: frozenset[int] | None) -> None:
        store = self._store
        freed_at = store.bytes - wanted_bytes
        skipped = 0
        for _ in range(MAX_EVICTIONS):
            if store.bytes <= freed_at or skipped > MAX_SKIPPED:
                return
            victim = store.victim(among)
            if victim is None:
                return
            data, key, _ = victim
            if self._primaries[data.number].evict(key):
                self._counters.evictions += 1
            else:  # it is being written, so about to become the most recently used
                store.touch(data, key)
                skipped += 1

    def _sweep(self, times: int) -> None:
        serving = [primary for primary in self._primaries.values() if primary.serving]
        if not serving:
            return
        now_ms = self._now_ms()
        for _ in range(min(times * (1 + len(serving) // SWEEP_SHARE), len(serving))):
            self._sweep_at = (self._sweep_at + 1) % len(serving)
            primary = serving[self._sweep_at]
            for key in self._store.due(primary.data, now_ms):
                if primary.evict(key):
                    self._counters.expirations += 1
