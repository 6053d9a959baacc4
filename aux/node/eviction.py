"""Keeping within the budget and the time: evictions and expiries, which only a primary may begin (R8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aux.node.counters import NodeCounters
from aux.node.eviction_tally import EvictionTally
from aux.replication.primary import Primary
from aux.storage.removals import EVICTED_FOR_COPY, EXPIRED, end_of_life_ms, prefix_of
from aux.storage.store import Store
from ringmaster.protocol.canary import MOST_SPARED, is_canary

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
        self.tally = EvictionTally()
        """Whose entries were evicted for whose writes."""

        self._sweep_at = 0
        self._trimming: dict[str, int] = {}
        self._spared = 0

    def trim(self) -> None:
        """Evict until the primaries' entries are within their share, at most `MAX_EVICTIONS`."""
        over = self._store.over_bytes()
        if over > 0:
            self._evict(over, None)
        elif self._store.pressure:
            self._store.pressure.clear()

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
        self._evict(over_bytes // 2 + 1, among, node)

    @property
    def is_trimming(self) -> bool:
        """Whether a node was over its share and has not heard yet of what was evicted for it."""
        return bool(self._trimming)

    def tick(self, times: int = 1) -> None:
        """Sweep the next few partitions, and trim. `times`: for how many ticks this one stands."""
        self._spared = 0
        for node, ticks in list(self._trimming.items()):
            if ticks > 1:
                self._trimming[node] = ticks - 1
            else:
                del self._trimming[node]
        self._sweep(times)
        self.trim()

    def _evict(self, wanted_bytes: int, among: frozenset[int] | None, node: str = "") -> None:
        """Evict about `wanted_bytes`; for the copies on `node` if that is said, else for those who wrote last.

        Each write answers for as many bytes as it made the entries grow.
        """
        store, removals, tally = self._store, self._store.removals, self.tally
        pressure = [] if node else store.pressure
        freed_at = store.bytes - wanted_bytes
        skipped = used = owed = 0
        writer = cause = b""
        mark = removals.mark(EVICTED_FOR_COPY, node.encode()) if node else removals.evicted(cause)
        held = store.bytes
        for _ in range(MAX_EVICTIONS):
            if held <= freed_at or skipped > MAX_SKIPPED:
                break
            victim = store.victim(among)
            if victim is None:
                break
            data, key, _ = victim
            if is_canary(key) and self._spared < MOST_SPARED:
                # The masters would take it for lost.
                self._spared += 1
                store.touch(data, key)
                # Some policies take who was written first for a replica, whatever was used since.
                data.entries[key] = data.entries.pop(key)
                continue
            while owed <= 0 and used < len(pressure):
                writer, grown = pressure[used]
                used += 1
                owed += grown
                cause = prefix_of(writer)
                mark = removals.evicted(cause)
            if self._primaries[data.number].evict(key):
                self._counters.evictions += 1
                removals.note(key, mark)
                tally.add(key, cause)
            else:  # it is being written, so about to become the most recently used
                store.touch(data, key)
                skipped += 1
            left = store.bytes
            owed -= held - left
            held = left
        if held <= freed_at:
            pressure.clear()
        elif used:
            # The rest follows soon; the write that was being paid for is not paid for yet.
            pressure[:used] = [(writer, owed)] if owed > 0 else []

    def _sweep(self, times: int) -> None:
        serving = [primary for primary in self._primaries.values() if primary.serving]
        if not serving:
            return
        now_ms = self._now_ms()
        for _ in range(min(times * (1 + len(serving) // SWEEP_SHARE), len(serving))):
            self._sweep_at = (self._sweep_at + 1) % len(serving)
            primary = serving[self._sweep_at]
            data, removals = primary.data, self._store.removals
            for key in self._store.due(data, now_ms):
                # The removal of one may have committed that of another.
                entry = data.entries.get(key)
                if primary.evict(key):
                    self._counters.expirations += 1
                    if entry is not None:
                        removals.note(key, removals.mark(EXPIRED, b"", end_of_life_ms(entry)))
