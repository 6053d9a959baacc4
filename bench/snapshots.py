"""What snapshots cost and how fast they come back. Prints JSON.

    python -m bench.snapshots [--only node|cluster|latency] [--entries 1000000]

`node`: one node in this process writes all of its partitions to a folder and another restores them: entries a second,
the longest time the loop was held, and how much memory it took. `cluster`: `ringmaster up` with 3 nodes and that many
entries is killed and started again: seconds until `/readyz` says 200. `latency`: a node with that many entries under
half of the writes it can take, with and without a snapshot being written, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop

from aux.node.node import Node
from aux.node.options import NodeOptions
from aux.snapshots.options import SnapshotOptions, SnapshotSetup
from aux.snapshots.service import SnapshotService
from aux.storage.store import Store
from ringmaster.client import Client
from ringmaster.cluster.view import NodeInfo, Partition, View
from ringmaster.errors import RingmasterError
from ringmaster.protocol.entry import JSON, pack
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.snapshot.directory import LocalDirectory

CLUSTER: Final = "ab" * 16
PARTITIONS: Final = 1024
VALUE_BYTES: Final = 100
_T = TypeVar("_T")


class _Held:
    held_until = float("inf")


class _Watch:
    """The longest time between two turns of the loop, and the highest resident memory, while it runs."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.over_ms = 0
        self.peak = self.base = resident()
        self._cpu_s = time.process_time()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        last = time.perf_counter()
        sampled = last
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            self.longest_s = max(self.longest_s, now - last)
            self.over_ms += now - last > 0.001
            last = now
            await asyncio.sleep(0.0005)
            last = time.perf_counter()
            if now - sampled > 0.01:
                sampled = now
                self.peak = max(self.peak, resident())

    def stop(self) -> dict[str, float]:
        self._task.cancel()
        return {
            "longest_turn_ms": round(self.longest_s * 1000, 2),
            "turns_over_1_ms": self.over_ms,
            "cpu_s": round(time.process_time() - self._cpu_s, 2),
            "memory_rise_mib": round((self.peak - self.base) / 2**20, 1),
        }


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def value(source: random.Random, *, compressible: bool) -> bytes:
    """A JSON string of `VALUE_BYTES` bytes."""
    half = source.randbytes(VALUE_BYTES // 2 - 1).hex().encode()
    return (
        b'"%b"' % (b"user profile of customer number " * 4)[: VALUE_BYTES - 2]
        if compressible
        else b'"%b"' % half
    )


class _World:
    """A node with its own partitions out of 1024, as one of three nodes has them."""

    def __init__(self, folder: Path, incarnation: str, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        self.mine = range(0, PARTITIONS, 3)
        clock = ClusterClock(SystemClock())
        self.node = Node(
            NodeOptions("n1", incarnation, 2_000_000_000, PARTITIONS),
            Store(2_000_000_000, PARTITIONS),
            clock,
            lambda *_a, **_k: None,  # type: ignore[arg-type,return-value]
            lambda _reason: None,
        )
        self.node.clock.lease = _Held()

        def in_thread(call: Callable[[], _T], /) -> asyncio.Future[_T]:
            return loop.run_in_executor(threads, call)

        setup = SnapshotSetup(LocalDirectory(folder, CLUSTER), in_thread, SnapshotOptions())
        self.service = SnapshotService(self.node, setup, CLUSTER)
        self.node.roles.loader = self.service

    async def appoint(self, term: int, before: int) -> None:
        """Primary of its partitions; waits until they are restored."""
        for epoch, row in ((term - 1, Partition(term=before)), (term, Partition("n1", term=term))):
            table = tuple(row if n in self.mine else Partition() for n in range(PARTITIONS))
            info = NodeInfo(id="n1", incarnation=self.node.incarnation, address="x:1")
            self.node.roles.adopt(
                View(cluster=CLUSTER, epoch=epoch, replicas=1, table=table, nodes={"n1": info})
            )
        while self.service.restorer.waiting:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)

    def fill(self, entries: int, *, compressible: bool) -> None:
        """In place of writes: the same entries, without their cost."""
        source = random.Random(1)
        numbers = list(self.mine)
        for n in range(entries):
            primary = self.node.roles.primaries[numbers[n % len(numbers)]]
            seq = primary.next_seq
            primary.submit(
                b"key:%012d" % n,
                pack(slot=0, term=primary.term, seq=seq, expires_ms=0, written_s=1, flags=JSON, meta=b"",
                     value=value(source, compressible=compressible)),
            )  # fmt: skip


async def measure_node(entries: int, folder: Path, *, compressible: bool) -> dict[str, Any]:
    """Write and restore `entries` in this process."""
    with ThreadPoolExecutor(3) as threads:
        world = _World(folder, "first", threads)
        running = asyncio.create_task(world.service.restorer.run())
        await world.appoint(2, 0)
        world.fill(entries, compressible=compressible)
        await asyncio.sleep(0.1)
        idle = _Watch()
        await asyncio.sleep(2.0)
        result: dict[str, Any] = {"entries": entries, "idle": idle.stop()}
        watch = _Watch()
        began = time.perf_counter()
        world.service.writer.request("bench")
        await world.service.writer.write_due()
        took = time.perf_counter() - began
        result["write"] = {
            "seconds": round(took, 2),
            "entries_per_s": round(entries / took),
            "bytes": world.service.writer.pipeline.written_bytes,
            "files": world.service.writer.pipeline.written_files,
            **watch.stop(),
        }
        running.cancel()
        del world
        restored = _World(folder, "second", threads)
        running = asyncio.create_task(restored.service.restorer.run())
        watch = _Watch()
        began = time.perf_counter()
        await restored.appoint(9, 2)
        took = time.perf_counter() - began
        count = restored.service.loaded_entries
        result["restore"] = {
            "seconds": round(took, 2),
            "entries": count,
            "entries_per_s": round(count / took),
            **watch.stop(),
        }
        running.cancel()
        return result


class _Up:
    """`ringmaster up` in a folder."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        flags = {
            "data-dir": folder / "data", "lease-dir": folder / "leases", "port": port, "master-port": port + 1,
            "aux-port": port + 20, "aux-http-port": port + 40, "nginx": "off",
        }  # fmt: skip
        given = [text for name, flag in flags.items() for text in (f"--{name}", str(flag))]
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ringmaster.cli", "up", *given, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_ready(self, timeout_s: float = 120.0) -> float:
        """Seconds since the start until `/readyz` says 200."""
        while time.perf_counter() - self.began < timeout_s:
            try:
                with Client(self.url, 2.0) as client:
                    if client.request("GET", "/readyz").status == 200:
                        return time.perf_counter() - self.began
            except RingmasterError:
                pass
            time.sleep(0.02)
        raise TimeoutError("the cluster did not become ready")

    def fill(self, entries: int) -> None:
        """Entries of `VALUE_BYTES` bytes, in bulk."""
        source = random.Random(2)
        with Client(self.url, 60.0) as client:
            for first in range(0, entries, 5000):
                items = b",".join(
                    b'{"key":"key:%012d","value":%b}' % (n, value(source, compressible=False))
                    for n in range(first, min(first + 5000, entries))
                )
                reply = client.request("POST", "/data/bulk", b"[%b]" % items)
                refused = [
                    row for row in reply.json()["results"] if row["status"] not in (200, 201)
                ]
                if refused:
                    raise OSError(f"{len(refused)} entries were refused: {refused[0]}")

    def snapshot(self) -> None:
        """All on disk."""
        with Client(self.url, 60.0) as client:
            progress = client.request("POST", "/snapshots").json()
            while progress["status"] == "running":
                time.sleep(0.1)
                progress = client.request("GET", f"/snapshots/{progress['id']}").json()

    def count(self) -> int:
        """Entries on all primaries and replicas."""
        with Client(self.url, 60.0) as client:
            return sum(node["entries"] for node in client.cluster()["nodes"])

    def kill(self) -> None:
        """SIGKILL: the kernel kills its children with it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        time.sleep(0.5)


def measure_cluster(entries: int, folder: Path, port: int) -> dict[str, Any]:
    """Kill a cluster of three nodes and start it again."""
    options = ("--aux", "3", "--masters", "2", "--max-memory", "1GB")
    up = _Up(folder, port, *options)
    try:
        up.wait_ready()
        up.fill(entries)
        up.snapshot()
        up.kill()
        up = _Up(folder, port, *options)
        ready_s = up.wait_ready()
        time.sleep(1.0)  # every master has asked every node again
        with Client(up.url, 60.0) as client:
            restored = client.cluster()["restore"]["entries"]
        return {"entries": entries, "restored": restored, "ready_s": round(ready_s, 2)}
    finally:
        up.kill()


async def _load(port: int, entries: int, seconds: float, rate: float) -> tuple[float, list[float]]:
    """Writes of keys that exist over 16 connections, `rate` a second (0: as many as go). (rate, latencies in s)."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    source = random.Random(3)
    began = loop.time()
    done = 0

    async def client(offset: int) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = began + offset / max(rate, 1)
        while (now := loop.time()) < began + seconds:
            if rate:
                if due > now:
                    await asyncio.sleep(due - now)
                begin = due
                due += 16 / rate
            else:
                begin = now
            body = b'{"key":"key:%012d","value":%b}' % (
                source.randrange(entries), value(source, compressible=False),
            )  # fmt: skip
            writer.write(
                b"POST /data HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(loop.time() - begin)
            done += 1
        writer.close()

    await asyncio.gather(*map(client, range(16)))
    return done / seconds, latencies


def measure_latency(
    entries: int, folder: Path, port: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """p50 and p99 of writes at half of the maximum, in turns of `seconds`: without a snapshot, and while one is written.

    One that is asked for is written in one go, which is harder on requests than what the interval spreads out. The
    medians of the turns are compared: a busy machine spoils single turns of both kinds.
    """
    up = _Up(
        folder, port, "--aux", "1", "--masters", "1", "--replicas", "1", "--max-memory", "2GB",
        "--snapshot-interval", "0",
    )  # fmt: skip
    found: dict[str, list[list[float]]] = {"quiet": [], "snapshot": []}
    took = []
    try:
        up.wait_ready()
        up.fill(entries)
        most, _ = uvloop.run(_load(port, entries, 5.0, 0))
        half = most / 2
        for _ in range(rounds):
            for kind, turns in found.items():
                uvloop.run(_load(port, entries, 2.0, half))
                with ThreadPoolExecutor(1) as beside:
                    began = time.perf_counter()
                    done = beside.submit(up.snapshot) if kind == "snapshot" else None
                    _, latencies = uvloop.run(_load(port, entries, seconds, half))
                    if done is not None:
                        done.result()
                        took.append(round(time.perf_counter() - began, 2))
                turns.append(sorted(latencies))
    finally:
        up.kill()
    result: dict[str, Any] = {"rate": round(half), "rounds": rounds, "seconds_until_written": took}
    for percent in (50, 99):
        for kind, turns in found.items():
            points = sorted(turn[len(turn) * percent // 100] * 1000 for turn in turns)
            result[f"{kind} p{percent}_ms"] = [round(point, 2) for point in points]
            result[f"{kind} median p{percent}_ms"] = round(points[len(points) // 2], 2)
    result["p99_ratio"] = round(result["snapshot median p99_ms"] / result["quiet median p99_ms"], 2)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["node", "cluster", "latency"])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--port", type=int, default=18700)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; default: a temporary one"
    )
    given = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="rm-bench-", dir=given.folder))
    result: dict[str, Any] = {"load_average": os.getloadavg(), "cores": os.cpu_count()}
    try:
        if given.only in (None, "node"):
            for kind in (False, True):
                measured = uvloop.run(
                    measure_node(given.entries, base / f"node-{kind}", compressible=kind)
                )
                result["node, values that compress" if kind else "node"] = measured
        if given.only in (None, "cluster"):
            result["cluster"] = measure_cluster(given.entries, base / "cluster", given.port)
        if given.only in (None, "latency"):
            result["latency"] = measure_latency(
                given.entries, base / "latency", given.port, given.seconds, given.rounds
            )
    finally:
        shutil.rmtree(base, ignore_errors=True)
    result["load_average after"] = os.getloadavg()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
