"""Replays real request traces against the real `Store` and prints hit ratios.

    python -m bench.traces TRACE [--policy NAME ...] [--capacity N ...] [--partitions N] [--nodes N]

A trace is `key<TAB>size` a line (`.tsv`; capacity in bytes of values) or `start nblocks 0 reqno` a line,
standing for that many consecutive keys (`.lis`; capacity in entries; Megiddo & Modha, "ARC: A
Self-Tuning, Low Overhead Replacement Cache", FAST 2003); `.xz` and `.zst` are unpacked. A miss inserts; an
object larger than the capacity is not inserted. An exact LRU gives the published figures to the last digit.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path

import zstandard

from aux.storage.store import Store
from ringmaster.config.eviction import DEFAULT_POLICY, POLICIES
from ringmaster.protocol.entry import HEADER_SIZE, pack
from ringmaster.protocol.hashing import partition_of

DEFAULT_CAPACITIES = {"tsv": (2 << 20, 8 << 20, 16 << 20), "lis": (250, 500, 1000, 2000)}


class ValueAccounting:
    """Counts the bytes of values and nothing else."""

    def entry(self, key_length: int, entry_length: int) -> int:
        return entry_length - HEADER_SIZE

    def table(self, entries: Sized) -> int:
        return 0


class EntryAccounting:
    """Counts entries."""

    def entry(self, key_length: int, entry_length: int) -> int:
        return 1 if key_length else 0

    def table(self, entries: Sized) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Ratios:
    """What a replay found: requests, hits, and the bytes of both."""

    requests: int
    hits: int
    bytes: int
    hit_bytes: int

    @property
    def object_percent(self) -> float:
        """Hits per request, in per cent."""
        return 100 * self.hits / self.requests

    @property
    def byte_percent(self) -> float:
        """Bytes hit per byte asked for, in per cent."""
        return 100 * self.hit_bytes / self.bytes


def replay(
    requests: Iterable[tuple[bytes, int]],
    capacity: int,
    *,
    by_entries: bool,
    partitions: int,
    policy: str = DEFAULT_POLICY,
    nodes: int = 1,
) -> Ratios:
    """Runs (key, size) requests through stores of `capacity` together (entries or bytes of values), one for each of `nodes`."""
    accounting = EntryAccounting() if by_entries else ValueAccounting()
    stores = [
        Store(
            capacity * (node + 1) // nodes - capacity * node // nodes,
            partitions,
            accounting=accounting,
            policy=policy,
        )
        for node in range(nodes)
    ]
    data = [stores[number % nodes].open(number, evictable=True) for number in range(partitions)]
    count = hits = total = hit_bytes = 0
    for key, size in requests:
        home = data[partition_of(key, partitions)]
        store = stores[home.number % nodes]
        count += 1
        total += size
        if store.touch(home, key) is not None:
            hits += 1
            hit_bytes += size
            continue
        if not by_entries and size > store.max_bytes:
            continue
        value = b"" if by_entries else bytes(size)
        entry = pack(
            slot=0, term=1, seq=count, expires_ms=0, written_s=0, flags=0, meta=b"", value=value
        )
        store.put(home, key, entry)
        while store.over_bytes():
            victim = store.victim()
            if victim is None:
                break
            store.remove(victim[0], victim[1])
    return Ratios(count, hits, total, hit_bytes)


def kind_of(path: Path) -> str:
    """`tsv` or `lis`. ValueError for anything else."""
    for kind in DEFAULT_CAPACITIES:
        if f".{kind}" in path.suffixes:
            return kind
    raise ValueError(f"{path.name}: neither .tsv nor .lis")


def read_trace(path: Path) -> Iterator[tuple[bytes, int]]:
    """The (key, size) requests of a trace file; every size of a `.lis` is 1."""
    lines = _lines(path)
    if kind_of(path) == "tsv":
        for line in lines:
            key, size = line.split("\t")
            yield key.encode(), int(size)
        return
    for line in lines:
        start, blocks = map(int, line.split()[:2])
        for block in range(start, start + blocks):
            yield b"%d" % block, 1


def _lines(path: Path) -> Iterator[str]:
    if path.suffix == ".xz":
        with lzma.open(path, "rt") as unpacked:
            yield from unpacked
    elif path.suffix == ".zst":
        with (
            path.open("rb") as packed,
            zstandard.ZstdDecompressor().stream_reader(packed) as unpacked,
        ):
            yield from io.TextIOWrapper(unpacked)
    else:
        with path.open() as plain:
            yield from plain


def main() -> None:
    """Prints one JSON line per capacity and policy."""
    parser = argparse.ArgumentParser(prog="bench.traces")
    parser.add_argument("trace", type=Path)
    parser.add_argument("--capacity", type=int, action="append")
    parser.add_argument("--policy", choices=POLICIES, action="append")
    parser.add_argument("--partitions", type=int, default=1024)
    parser.add_argument("--nodes", type=int, default=1)
    options = parser.parse_args()
    kind = kind_of(options.trace)
    requests = list(read_trace(options.trace))
    for capacity in options.capacity or DEFAULT_CAPACITIES[kind]:
        for policy in options.policy or [DEFAULT_POLICY]:
            ratios = replay(
                requests,
                capacity,
                by_entries=kind == "lis",
                partitions=options.partitions,
                policy=policy,
                nodes=options.nodes,
            )
            report = {
                "trace": options.trace.name,
                "policy": policy,
                "capacity": capacity,
                "nodes": options.nodes,
                "requests": ratios.requests,
                "misses": ratios.requests - ratios.hits,
                "object_percent": round(ratios.object_percent, 2),
                "byte_percent": round(ratios.byte_percent, 2),
            }
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
