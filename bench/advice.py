"""Replays a trace, asks the advisor, and compares what it says with full replays at the other sizes and by the other policies.

    python -m bench.advice TRACE [--capacity N] [--policy NAME] [--requests N]

Prints a line of JSON for each prospect: per cent, and by how much the advisor was off. Traces are those of `bench/traces.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from aux.advice.advisor import Advisor
from aux.advice.model import Estimate, Totals
from aux.storage.store import Store
from bench.traces import EntryAccounting, ValueAccounting, kind_of, read_trace, replay
from ringmaster.config.eviction import DEFAULT_POLICY, POLICIES
from ringmaster.protocol.entry import pack
from ringmaster.protocol.hashing import partition_of

DEFAULT_CAPACITY = {"tsv": 4 << 20, "lis": 500}
NODES = 3
_TICK = 500

Requests = Sequence[tuple[bytes, int]]


class AdvisedReplay:
    """A node's store and its advisor, without a node: one tick of the advisor for each 500 requests."""

    def __init__(
        self,
        capacity: int,
        *,
        by_entries: bool,
        policy: str,
        partitions: int = 1024,
        timer: Callable[[], float] = float,
    ) -> None:
        accounting = EntryAccounting() if by_entries else ValueAccounting()
        self.store = Store(capacity, partitions, accounting=accounting, policy=policy)
        self.data = [self.store.open(number, evictable=True) for number in range(partitions)]
        self.reads = self.misses = 0
        self._by_entries = by_entries
        self.now = 0.0
        self.advisor = Advisor(self.store, self._totals, lambda: self.now, int, timer)
        self.advisor.tick(self.data, NODES)

    def _totals(self) -> Totals:
        return Totals(self.reads, self.misses, self.reads, self.now)

    def run(self, requests: Requests) -> list[Estimate]:
        """What the advisor says after them."""
        for number, (key, size) in enumerate(requests):
            if not number % _TICK:
                self.now += 1
                self.advisor.tick(self.data, NODES)
            self._request(key, size)
        return self.advisor.estimates()

    def _request(self, key: bytes, size: int) -> None:
        store, advisor = self.store, self.advisor
        home = self.data[partition_of(key, len(self.data))]
        found = store.touch(home, key)
        self.reads += 1
        self.misses += found is None
        if home.sampled:
            advisor.read(home, key, found)
        if found is not None or (not self._by_entries and size > store.max_bytes):
            return
        value = b"" if self._by_entries else bytes(size)
        entry = pack(
            slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=b"", value=value
        )
        store.put(home, key, entry)
        if home.sampled:
            advisor.wrote(home, key, entry)
        while store.over_bytes():
            victim = store.victim()
            if victim is None:
                break
            store.remove(victim[0], victim[1])


def main() -> None:
    """Prints one JSON line per prospect."""
    parser = argparse.ArgumentParser(prog="bench.advice")
    parser.add_argument("trace", type=Path)
    parser.add_argument("--capacity", type=int)
    parser.add_argument("--policy", choices=POLICIES, default=DEFAULT_POLICY)
    parser.add_argument("--requests", type=int)
    options = parser.parse_args()
    kind = kind_of(options.trace)
    requests = list(islice(read_trace(options.trace), options.requests))
    capacity = options.capacity or DEFAULT_CAPACITY[kind]
    by_entries = kind == "lis"
    advised = AdvisedReplay(capacity, by_entries=by_entries, policy=options.policy)
    for each in advised.run(requests):
        full = replay(
            requests, int(capacity * each.memory), by_entries=by_entries, partitions=1024, policy=each.policy
        ).object_percent  # fmt: skip
        report = {
            "trace": options.trace.name,
            "runs": options.policy,
            "policy": each.policy,
            "memory": round(each.memory, 3),
            "advised_percent": round(100 * each.ratio, 2),
            "replayed_percent": round(full, 2),
            "off": round(100 * each.ratio - full, 2),
            "standard_error": round(100 * each.error, 2),
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
