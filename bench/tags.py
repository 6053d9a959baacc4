"""Invalidations of tags on a running cluster: how many a second, what reads notice, how soon the memory is free.

usage: python -m bench.tags --url http://127.0.0.1:8080 [--entries 100000] [--seconds 5]

Start a cluster of three nodes before: `ringmaster up --aux 3 --max-memory 1GB`. Reads come at a steady rate whatever the cluster
does (an open loop), so that none of them waits for another; their 99th percentile counts from when each was due.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from typing import Any, Final

import msgspec

from ringmaster.client.aio import AsyncClient

READS_A_SECOND: Final = 400
READERS: Final = 8
TAGS: Final = 200
BATCH: Final = 1000


def percentile(values: list[float], share: float) -> float:
    """Of `values`, in their unit."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


async def fill(client: AsyncClient, count: int, tag_of: Any) -> None:
    """`count` entries of 100 bytes, with the tags that `tag_of(number)` names."""
    for first in range(0, count, BATCH):
        items = [
            {"key": f"e{number}", "value": "x" * 100, "tags": tag_of(number)}
            for number in range(first, min(count, first + BATCH))
        ]
        body = msgspec.json.encode(items)
        await client.request("POST", "/data/bulk", body, {"Content-Type": "application/json"})


async def read(client: AsyncClient, entries: int, seconds: float) -> list[float]:
    """Latencies in ms."""
    found: list[float] = []
    began = time.perf_counter()

    async def reader(first: int) -> None:
        for number in range(first, int(READS_A_SECOND * seconds), READERS):
            due = began + number / READS_A_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await client.get(f"e{random.randrange(entries)}")
            found.append((time.perf_counter() - due) * 1000)

    await asyncio.gather(*[reader(number) for number in range(READERS)])
    return found


async def invalidate(client: AsyncClient, seconds: float, rate: float) -> int:
    """At `rate` a second for so long, and each time writes what carries the tag again; how many were done."""
    done = 0
    began = time.perf_counter()

    async def worker(first: int, of: int) -> None:
        nonlocal done
        number = first
        while (due := began + number / rate) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tag = f"t{number % TAGS}"
            await client.invalidate(tag)
            done += 1
            await client.put(f"e{number % TAGS}", b"y" * 100, tags=[tag])
            number += of

    await asyncio.gather(*[worker(number, 8) for number in range(8)])
    return done


async def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=250.0)
    given = parser.parse_args()
    write = sys.stdout.write
    async with AsyncClient(given.url, timeout_s=30.0) as client:
        await fill(client, given.entries, lambda number: [f"t{number % TAGS}", "all"])
        rest = await read(client, given.entries, given.seconds)
        write(
            f"reads at rest: p50 {percentile(rest, 0.5):.2f} ms, p99 {percentile(rest, 0.99):.2f} ms\n"
        )
        busy, done = await asyncio.gather(
            read(client, given.entries, given.seconds),
            invalidate(client, given.seconds, given.rate),
        )
        write(
            f"reads meanwhile: p50 {percentile(busy, 0.5):.2f} ms, p99 {percentile(busy, 0.99):.2f} ms\n"
            f"invalidations: {done / given.seconds:.0f}/s\n"
        )
        await fill(client, given.entries, lambda number: [f"t{number % TAGS}", "all"])
        began = time.perf_counter()
        sweeping = asyncio.create_task(read(client, given.entries, 8.0))
        await client.invalidate("all")
        took = time.perf_counter() - began
        while sum(node["entries"] for node in (await client.cluster())["nodes"]) > 100:  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(0.05)
        write(
            f"one tag of all {given.entries}: {took * 1000:.1f} ms, memory free after {time.perf_counter() - began:.2f} s\n"
        )
        swept = await sweeping
        write(
            f"reads meanwhile: p50 {percentile(swept, 0.5):.2f} ms, p99 {percentile(swept, 0.99):.2f} ms, longest {max(swept):.1f} ms\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
