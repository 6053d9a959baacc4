"""What copies in masters cost writes: those of a key that every master has a copy of, against those of a key that nobody reads.

usage: python -m bench.copies --master 127.0.0.1:8001 --master 127.0.0.1:8002 [--writes 500] [--pid PID]

Start a cluster before: `ringmaster up --aux 3`. Readers ask each master for the hot key all the time, so that it is given back after each write. A
write of either key is due every 20 ms, in turns. `--pid`: of the first master, which is stopped (SIGSTOP) for 3 s at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from typing import Final

from bench.tags import percentile

EVERY_S: Final = 0.02
READ_PAUSE_S: Final = 0.0005
STOP_S: Final = 3.0
WARM_S: Final = 1.0


class Connection:
    """One connection to a master; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, address: str) -> Connection:
        """Connected."""
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def ask(self, request: bytes) -> tuple[bytes, float]:
        """(head of the reply, seconds it took)."""
        began = time.perf_counter()
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        took_s = time.perf_counter() - began
        length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
        await self._reader.readexactly(int(length or b"0"))
        return head, took_s

    async def put(self, key: str, value: int) -> float:
        """Write; how many ms that took."""
        body = b"%d" % value
        head, took_s = await self.ask(
            f"PUT /data/{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        if not head.startswith((b"HTTP/1.1 201", b"HTTP/1.1 204")):
            sys.exit(f"not as it should be: {head!r}")
        return took_s * 1000


class Reader:
    """Asks one master for the hot key until stopped. `by_copy`: how many of its `reads` that master answered by itself."""

    def __init__(self) -> None:
        self.reads = 0
        self.by_copy = 0

    async def run(self, address: str) -> None:
        """Until cancelled."""
        connection = await Connection.to(address)
        while True:
            head, _ = await connection.ask(b"GET /data/hot HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.reads += 1
            self.by_copy += b"detail=master" in head
            await asyncio.sleep(READ_PAUSE_S)


async def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--master", action="append", required=True)
    parser.add_argument("--writes", type=int, default=500)
    parser.add_argument("--pid", type=int, default=0)
    given = parser.parse_args()
    writer = await Connection.to(given.master[-1])
    await writer.put("hot", 0)
    readers = [Reader() for _ in given.master]
    tasks = [
        asyncio.create_task(reader.run(address))
        for reader, address in zip(readers, given.master, strict=True)
    ]
    await asyncio.sleep(WARM_S)
    times: dict[str, list[float]] = {"hot": [], "cold": []}
    for number in range(given.writes):
        for key in ("hot", f"cold-{number}"):
            times[key.partition("-")[0]].append(await writer.put(key, number))
            await asyncio.sleep(EVERY_S)
    for name, each in times.items():
        sys.stdout.write(
            f"writes of {name} keys: p50 {percentile(each, 0.5):.2f} ms, p99 {percentile(each, 0.99):.2f} ms,"
            f" longest {max(each):.2f} ms\n"
        )
    reads, by_copy = sum(each.reads for each in readers), sum(each.by_copy for each in readers)
    sys.stdout.write(f"{reads} reads of the hot key meanwhile, {by_copy} answered by masters\n")
    if given.pid:
        await asyncio.sleep(WARM_S)
        os.kill(given.pid, signal.SIGSTOP)
        try:
            first, second = await writer.put("hot", -1), await writer.put("hot", -2)
            await asyncio.sleep(STOP_S)
        finally:
            os.kill(given.pid, signal.SIGCONT)
        sys.stdout.write(f"with a master stopped: {first:.0f} ms, then {second:.1f} ms\n")
    for task in tasks:
        task.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
