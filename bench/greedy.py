"""What slow and greedy clients cost the others: `python -m bench.greedy [--only NAME …] [--seconds 10] [--interpreted]`.

One master and two nodes of `ringmaster up`, and a client that asks 200 times a second (nine GETs of 100 bytes, then a PUT), in a process of its own. Its
latency counts from when the request was due, so that a stall shows in every request that it held up. It is measured at rest
and during each attack. Attackers come from other loopback addresses, in this process; they share the machine's
cores with everything else. Prints a table: p50 and p99 of the client, the ratio of the p99 to that at rest right before, requests that failed, and
resident memory of the master before, at most, and 5 s after the attack.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from bench.peers import Ringmaster, compiled_path, post

RATE: Final = 200
REST_S: Final = 5.0
AFTER_S: Final = 5.0
MIB: Final = 2**20

_GET: Final = b"GET /data/well-behaved HTTP/1.1\r\nHost: localhost\r\n\r\n"
_PUT: Final = (
    b"PUT /data/well-behaved HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    + b"x" * 100
)


@dataclass
class Heard:
    """What an attacker got to hear. `statuses`: of the replies; 0: a reset or an end without one."""

    statuses: Counter[int] = field(default_factory=Counter)
    connected: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


Attack = Callable[[int, Heard, float], Awaitable[None]]
"""(port, what is heard, until when by `time.monotonic()`)."""


def well_behaved(port: int, orders: Connection) -> None:
    """For each number of seconds that comes, ask for so long; answers with (latencies in seconds, failures)."""
    link = socket.create_connection(("127.0.0.1", port))
    while (seconds := orders.recv()) is not None:
        latencies, failures = [], 0
        began = time.monotonic()
        for number in range(int(seconds * RATE)):
            due = began + number / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                link.settimeout(10.0)
                link.sendall(_PUT if number % 10 == 9 else _GET)
                failures += not link.recv(65536).startswith(b"HTTP/1.1 20")
            except OSError:
                failures += 1
                link.close()
                with suppress(OSError):
                    link = socket.create_connection(("127.0.0.1", port), timeout=10.0)
            latencies.append(time.monotonic() - due)
        orders.send((sorted(latencies), failures))


async def connected(
    port: int, address: str, buffer: int = 0
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from the loopback `address`, with a receive buffer of so many bytes, 0 for the system's."""
    link = socket.socket()
    link.setblocking(False)
    if buffer:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    link.bind((address, 0))
    await asyncio.get_running_loop().sock_connect(link, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=link, limit=4096)


async def status_of(reader: asyncio.StreamReader, heard: Heard, within_s: float) -> None:
    """Note the status of the next reply."""
    try:
        line = await asyncio.wait_for(reader.readline(), within_s)
        heard.statuses[int(line[9:12]) if line else 0] += 1
    except TimeoutError:
        pass
    except (OSError, ValueError):
        heard.statuses[0] += 1


async def crowd(
    count: int, ends: float, heard: Heard, one: Callable[[int], Awaitable[None]]
) -> None:
    """Run `one` for so many clients at once, until it is time."""

    async def held(number: int) -> None:
        with suppress(OSError):
            await one(number)

    heard.tasks = {asyncio.create_task(held(number)) for number in range(count)}
    await asyncio.wait(heard.tasks, timeout=max(0.0, ends - time.monotonic()))
    for task in heard.tasks:
        task.cancel()
    await asyncio.gather(*heard.tasks, return_exceptions=True)


async def slow_heads(port: int, heard: Heard, ends: float) -> None:
    """500 clients send a byte of their header a second."""

    async def one(_: int) -> None:
        reader, writer = await connected(port, "127.0.0.2")
        heard.connected += 1
        told = asyncio.create_task(status_of(reader, heard, 60.0))
        try:
            for at in range(10_000):
                writer.write(
                    (b"GET /data/a HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 10_000)[at : at + 1]
                )
                await asyncio.sleep(1.0)
                if told.done():
                    break
        finally:
            told.cancel()
            writer.close()

    await crowd(500, ends, heard, one)


async def slow_bodies(port: int, heard: Heard, ends: float) -> None:
    """200 clients announce 8 MiB and send 100 bytes a second."""

    async def one(_: int) -> None:
        reader, writer = await connected(port, "127.0.0.2")
        heard.connected += 1
        told = asyncio.create_task(status_of(reader, heard, 60.0))
        try:
            writer.write(
                b"PUT /data/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8388608\r\n\r\n"
            )
            while not told.done():
                writer.write(b"y" * 100)
                await asyncio.sleep(1.0)
        finally:
            told.cancel()
            writer.close()

    await crowd(200, ends, heard, one)


async def deaf_readers(port: int, heard: Heard, ends: float) -> None:
    """200 clients ask for 8 MiB each and read none of it."""

    async def one(number: int) -> None:
        reader, writer = await connected(port, "127.0.0.2", 4096)
        heard.connected += 1
        try:
            writer.write(b"GET /data/large-%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (number % 8))
            await asyncio.sleep(3600)
        finally:
            writer.transport.abort()
            del reader

    await crowd(200, ends, heard, one)


async def idle(port: int, heard: Heard, ends: float) -> None:
    """5,000 connections that say nothing."""
    await _sitting(port, heard, ends, 5000)


async def beyond_the_cap(port: int, heard: Heard, ends: float) -> None:
    """6,000 from one address, of which 5,000 may be there."""
    await _sitting(port, heard, ends, 6000)


async def _sitting(port: int, heard: Heard, ends: float, count: int) -> None:
    async def one(number: int) -> None:
        await asyncio.sleep(number / 5000)
        reader, writer = await connected(port, "127.0.0.2")
        heard.connected += 1
        try:
            await status_of(reader, heard, 3600)
        finally:
            writer.close()

    await crowd(count, ends, heard, one)


async def churn(port: int, heard: Heard, ends: float) -> None:
    """20 clients that connect, ask once and leave, over and over."""

    async def one(_: int) -> None:
        while time.monotonic() < ends:
            reader, writer = await connected(port, "127.0.0.2")
            heard.connected += 1
            writer.write(_GET)
            await status_of(reader, heard, 10.0)
            writer.transport.abort()

    await crowd(20, ends, heard, one)


async def deep_json(port: int, heard: Heard, ends: float) -> None:
    """4 clients that post JSON nested 100,000 deep, over and over."""
    await _posting(
        port,
        heard,
        ends,
        4,
        b'{"key":"deep","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "/data",
    )


async def large_bulks(port: int, heard: Heard, ends: float) -> None:
    """20 bulk requests of 31 MiB at once."""
    value = b"x" * (31 * MIB // 40)
    items = [b'{"key":"bulk-%d","value":"%b"}' % (number, value) for number in range(40)]
    await _posting(port, heard, ends, 20, b"[" + b",".join(items) + b"]", "/data/bulk", once=True)


async def _posting(
    port: int,
    heard: Heard,
    ends: float,
    count: int,
    body: bytes,
    target: str,
    *,
    once: bool = False,
) -> None:
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"

    async def one(_: int) -> None:
        while time.monotonic() < ends:
            reader, writer = await connected(port, "127.0.0.2")
            heard.connected += 1
            writer.write(head.encode())
            told = asyncio.create_task(status_of(reader, heard, 60.0))
            try:
                for at in range(0, len(body), 2**18):
                    writer.write(body[at : at + 2**18])
                    await writer.drain()
                await told
            except OSError:
                await told
            finally:
                told.cancel()
                writer.transport.abort()
            if once:
                break

    await crowd(count, ends, heard, one)


ATTACKS: Final[dict[str, Attack]] = {
    attack.__name__: attack
    for attack in (
        slow_heads, slow_bodies, deaf_readers, idle, beyond_the_cap, churn, deep_json, large_bulks,
    )
}  # fmt: skip


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB


def master_of(port: int) -> int:
    """The process id of the master on `port`: the one of `ringmaster up`'s children that says so in its arguments."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"master" in words and b"--port" in words and str(port).encode() in words:
                    return int(folder.name)
    raise LookupError(f"no master on port {port}")


def quantile(latencies: list[float], part: float) -> float:
    """In milliseconds."""
    return 1000 * latencies[min(int(len(latencies) * part), len(latencies) - 1)]


async def watched(pid: int, attack: Awaitable[None]) -> float:
    """Run the attack; the most memory that the master took meanwhile."""
    task = asyncio.ensure_future(attack)
    most = 0.0
    while not task.done():
        most = max(most, resident_mib(pid))
        await asyncio.wait({task}, timeout=0.05)
    await task
    return most


def row(name: str, port: int, pid: int, orders: Connection, seconds: float) -> str:
    """Measure one attack; its line of the table."""
    orders.send(REST_S)
    rest, _ = orders.recv()
    before = resident_mib(pid)
    heard = Heard()
    orders.send(seconds)
    attack = ATTACKS[name](port, heard, time.monotonic() + seconds)
    most = asyncio.run(watched(pid, attack))
    during, failures = orders.recv()
    time.sleep(AFTER_S)
    p99, at_rest = quantile(during, 0.99), quantile(rest, 0.99)
    said = ", ".join(
        f"{count} × {status or 'reset'}" for status, count in sorted(heard.statuses.items())
    )
    return (
        f"| {name} | {quantile(during, 0.5):.2f} | {at_rest:.2f} | {p99:.2f} | {p99 / at_rest:.1f} | {failures} "
        f"| {before:.0f} | {most:.0f} | {resident_mib(pid):.0f} | {heard.connected} | {said} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="bench.greedy", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(ATTACKS))
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--interpreted", action="store_true")
    given = parser.parse_args()
    if not (given.interpreted or compiled_path()):
        sys.exit("greedy: `make compiled` first, or --interpreted")
    with Ringmaster("0-1", compiled=not given.interpreted) as cluster:
        port = cluster.port + 1
        for number in range(8):
            post(f"http://127.0.0.1:{port}/data/large-{number}", b"x" * (8 * MIB - 1024), "PUT")
        post(f"http://127.0.0.1:{port}/data/well-behaved", b"x" * 100, "PUT")
        ours, theirs = multiprocessing.Pipe()
        client = multiprocessing.Process(target=well_behaved, args=(port, theirs))
        client.start()
        pid = master_of(port)
        print(
            "| attack | p50 ms | p99 at rest | p99 | ratio | failed | MiB before | most | after | connections | replies |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for name in given.only or ATTACKS:
            print(row(name, port, pid, ours, given.seconds), flush=True)
        ours.send(None)
        client.join()


if __name__ == "__main__":
    main()
