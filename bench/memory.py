"""Measures what an entry costs in resident memory, and whether the budget holds. Prints JSON.

    python -m bench.memory [--entries N] [--max-mib N] [--only speed|overhead|budget]

`overhead`: bytes of resident memory per entry beyond key and value (16 and 100 bytes, expiry and version set): after
filling, after as many random reads, after as many overwrites; and when the free pages of the heap were given back, as a
node does whenever they have grown by 2 % of its budget. `budget`: a store overfilled tenfold, the sizes
changing from phase to phase, which is what fragments a heap; the peak of resident memory against the budget, with the
correction that the server makes (`aux/storage/memory_accounting.py`) and without. `speed`: microseconds a call. Each runs in a
process of its own.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from aux.storage.memory_accounting import (
    Footprint,
    release_free_memory,
    resident_bytes,
    tune_allocator,
)
from aux.storage.partition_data import PartitionData
from aux.storage.removals import RemovalLog
from aux.storage.store import Store
from ringmaster.protocol.entry import pack
from ringmaster.protocol.hashing import partition_of

MIB = 1024 * 1024
KEY_BYTES = 16
VALUE_BYTES = 100


def load_server_modules() -> int:
    """Imports what an aux server imports and returns the resident bytes with that."""
    for name in ("aiohttp.web", "hiredis", "prometheus_client", "structlog", "uvloop"):
        importlib.import_module(name)
    return resident_bytes()


def entry_of(value: bytes) -> bytes:
    """An entry with expiry and version."""
    return pack(
        slot=0,
        term=3,
        seq=1 << 33,
        expires_ms=1 << 41,
        written_s=1 << 30,
        flags=0,
        meta=b"",
        value=value,
    )


def opened(store: Store, partitions: int) -> list[PartitionData]:
    """All partitions, as primary."""
    return [store.open(number, evictable=True) for number in range(partitions)]


def measure_overhead(entries: int, partitions: int) -> dict[str, Any]:
    """Resident bytes per entry beyond key and value, in three states."""
    random.seed(1)
    tune_allocator()
    base = load_server_modules()
    store = Store(1 << 50, partitions, removals=RemovalLog(0))
    data = opened(store, partitions)

    def place(key: bytes) -> PartitionData:
        return data[partition_of(key, partitions)]

    def put(number: int) -> None:
        key = b"%016d" % number
        store.put(place(key), key, entry_of(b"v" * VALUE_BYTES))

    def touch(number: int) -> None:
        key = b"%016d" % number
        store.touch(place(key), key)

    def report() -> dict[str, float]:
        resident = resident_bytes() - base
        release_free_memory()
        kept = resident_bytes() - base
        return {
            "overhead_per_entry": round(resident / entries - KEY_BYTES - VALUE_BYTES, 1),
            "after_release": round(kept / entries - KEY_BYTES - VALUE_BYTES, 1),
            "counted_per_resident": round(store.bytes / kept, 3),
        }

    for number in range(entries):
        put(number)
    filled = report()
    for _ in range(entries):
        touch(random.randrange(entries))
    read = report()
    for _ in range(entries):
        put(random.randrange(entries))
    return {
        "entries": entries,
        "partitions": partitions,
        "base_mib": round(base / MIB, 1),
        "filled": filled,
        "read": read,
        "overwritten": report(),
    }


PHASES: dict[str, Callable[[], int]] = {
    "mixed": lambda: round(10 ** random.uniform(1, 5)),
    "small": lambda: random.randint(10, 300),
    "middle": lambda: random.randint(600, 6_000),
    "large": lambda: random.randint(50_000, 100_000),
    "odd": lambda: random.choice((470, 2_000, 9_000, 33_000, 63_000, 66_000)),
    "mixed again": lambda: round(10 ** random.uniform(1, 5)),
}


def measure_budget(max_mib: int, partitions: int, *, corrected: bool) -> dict[str, Any]:
    """Fills ten times the budget in phases; one read of a hot key per write pins old entries among the new."""
    random.seed(1)
    tune_allocator()
    base = load_server_modules()
    max_bytes = max_mib * MIB
    store = Store(max_bytes, partitions, overhead_bytes=base)
    data = opened(store, partitions)
    footprint = Footprint(store)
    noise = random.randbytes(100_000)
    hot: list[bytes] = []
    phases: dict[str, Any] = {}
    number = 0
    slowest_s = 0.0
    for phase, size_of in PHASES.items():
        written = 0
        evicted = 0
        since = uncorrected = 0
        peak = 0
        while written < max_bytes * 10 // len(PHASES):
            number += 1
            key = b"%016d" % number
            value = noise[: size_of()]
            store.put(data[partition_of(key, partitions)], key, entry_of(value))
            written += len(value)
            since += 1
            uncorrected += len(value)
            if number % 20 == 0:
                hot.append(key)
                if len(hot) > 20_000:
                    hot = hot[10_000:]
            if hot:
                read = random.choice(hot)
                store.touch(data[partition_of(read, partitions)], read)
            while store.over_bytes() and (victim := store.victim()):
                store.remove(victim[0], victim[1])
                evicted += 1
            if since % 32 == 0:
                peak = max(peak, resident_bytes())
                if corrected and uncorrected > max_bytes // 32:
                    uncorrected = 0
                    began = time.perf_counter()
                    footprint.correct()
                    slowest_s = max(slowest_s, time.perf_counter() - began)
        phases[phase] = {
            "peak": round(peak / max_bytes, 3),
            "end": round(resident_bytes() / max_bytes, 3),
            "counted": round((store.bytes + base) / max_bytes, 3),
            "overhead_mib": round(store.overhead_bytes / MIB, 1),
            "entries": store.entries,
            "evicted": evicted,
        }
    return {
        "max_mib": max_mib,
        "corrected": corrected,
        "base_mib": round(base / MIB, 1),
        "peak": max(one["peak"] for one in phases.values()),
        "slowest_correction_ms": round(slowest_s * 1e3, 1),
        "phases": phases,
    }


def measure_speed(entries: int, partitions: int) -> dict[str, Any]:
    """Microseconds a call, the loop's own time taken off, on a hot set of 10,000 keys and on all."""
    store = Store(1 << 50, partitions, removals=RemovalLog(0))
    data = opened(store, partitions)
    entry = entry_of(b"v" * VALUE_BYTES)
    keys = [b"%016d" % number for number in range(entries)]
    homes = [data[partition_of(key, partitions)] for key in keys]
    for home, key in zip(homes, keys, strict=True):
        store.put(home, key, entry)

    def timed(call: Callable[[PartitionData, bytes], object], among: int) -> float:
        chosen = [(homes[i], keys[i]) for i in random.choices(range(among), k=200_000)]
        best = 1e9
        for _ in range(3):
            began = time.perf_counter()
            for home, key in chosen:
                call(home, key)
            best = min(best, time.perf_counter() - began)
        return round(best / len(chosen) * 1e6, 3)

    def evict() -> None:
        victim = store.victim()
        if victim is not None:
            store.remove(victim[0], victim[1])

    def put(home: PartitionData, key: bytes) -> None:
        store.put(home, key, entry)

    result: dict[str, Any] = {"entries": entries, "partitions": partitions}
    for name, call in (("touch", store.touch), ("put", put)):
        result[name] = {"hot": timed(call, 10_000), "all": timed(call, entries)}
    count = entries // 4
    worst = 0.0
    began = time.perf_counter()
    for _ in range(count):
        start = time.perf_counter()
        evict()
        worst = max(worst, time.perf_counter() - start)
    result["evict"] = round((time.perf_counter() - began) / count * 1e6, 3)
    result["slowest_evict_ms"] = round(worst * 1e3, 2)
    began = time.perf_counter()
    store.drop(0)
    result["drop_ms"] = round((time.perf_counter() - began) * 1e3, 2)
    return result


def in_subprocess(call: str, allocator: str = "malloc") -> Any:
    """Runs `call`, an expression in this module's names, in a fresh interpreter with that PYTHONMALLOC."""
    program = f"import json; from bench.memory import *; print(json.dumps({call}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
        env={**os.environ, "PYTHONMALLOC": allocator},
    )
    return {"allocator": allocator, **json.loads(done.stdout)}


def main() -> None:
    """Runs what was asked for and prints one JSON document."""
    parser = argparse.ArgumentParser(prog="bench.memory")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--max-mib", type=int, default=256)
    parser.add_argument("--only", choices=("speed", "overhead", "budget"))
    options = parser.parse_args()
    count = options.entries
    report: dict[str, Any] = {}
    if options.only in {None, "speed"}:
        report["speed"] = [in_subprocess(f"measure_speed({count}, {n})") for n in (1024, 1)]
    if options.only in {None, "overhead"}:
        report["overhead"] = [
            in_subprocess(f"measure_overhead({count}, {partitions})", allocator)
            for partitions, allocator in (
                (1024, "malloc"),
                (256, "malloc"),
                (1, "malloc"),
                (1024, "default"),
            )
        ]
    if options.only in {None, "budget"}:
        report["budget"] = [
            in_subprocess(
                f"measure_budget({options.max_mib}, 1024, corrected={corrected})", allocator
            )
            for corrected, allocator in ((True, "malloc"), (True, "default"), (False, "malloc"))
        ]
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
