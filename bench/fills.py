"""A stampede on one missing key: who gets the token, how soon the others have the value, how soon a token is passed on.

usage: python -m bench.fills --master 127.0.0.1:8001 --master 127.0.0.1:8002 [--clients 500] [--rounds 10]

Start a cluster before: `ringmaster up --aux 3`. Each client has a connection of its own, to the masters in turn. Times are taken in this
one process, from when the writer has its reply to when each client has its own.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import sys
import time
from typing import Final

from bench.tags import percentile

WAIT_S: Final = 10
SETTLE_S: Final = 0.5

_token = re.compile(rb"\r\nFill-Token: ([^\r]+)").search

Reply = tuple[int, bytes, float]
"""Status, whole reply, and when it came."""


async def ask(address: str, request: bytes) -> tuple[Reply, asyncio.StreamWriter]:
    """One request on a connection of its own, which stays open."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    now = time.perf_counter()
    return (int(head.split(b" ", 2)[1]), head, now), writer


def expect(holds: bool, seen: object) -> None:
    """End the measurement if what is measured is wrong."""
    if not holds:
        sys.exit(f"not as it should be: {seen!r}")


def reading(key: str) -> bytes:
    """A read that waits."""
    return f"GET /data/{key} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait={WAIT_S}\r\n\r\n".encode()


def with_token(method: str, key: str, token: bytes, body: bytes) -> bytes:
    """A write, or a DELETE that gives the token up."""
    head = f"{method} /data/{key} HTTP/1.1\r\nHost: localhost\r\nFill-Token: {token.decode()}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def token_of(head: bytes) -> bytes:
    """The fill token in a reply's head."""
    found = _token(head)
    expect(found is not None, head)
    return b"" if found is None else found[1]


async def one_round(masters: list[str], clients: int) -> tuple[int, list[float], float, float]:
    """(tokens given at first, ms until each of the others had the value, ms to pass a token on by giving up, and by closing)."""
    key = f"stampede-{secrets.token_hex(4)}"
    tasks = [
        asyncio.create_task(ask(masters[number % len(masters)], reading(key)))
        for number in range(clients)
    ]
    await asyncio.sleep(SETTLE_S)
    holders = [task.result() for task in tasks if task.done()]
    given = len(holders)
    (_, head, _), writer = holders[0]
    token = token_of(head)
    # Given up: the next has it.
    began = time.perf_counter()
    await ask(masters[0], with_token("DELETE", key, token, b""))
    (reply, second) = await _next(tasks, {writer})
    given_up_ms = (reply[2] - began) * 1000
    # Its connection closes: the one after that has it.
    began = time.perf_counter()
    second.close()
    (reply, _) = await _next(tasks, {writer, second})
    closed_ms = (reply[2] - began) * 1000
    token = token_of(reply[1])
    (status, _, written), _ = await ask(masters[-1], with_token("PUT", key, token, b"x" * 100))
    expect(status == 201, status)
    replies = [(await task)[0] for task in tasks]
    times = [(when - written) * 1000 for status, _, when in replies if status == 200]
    for task in tasks:
        task.result()[1].close()
    expect(len(times) == clients - 3, [status for status, _, _ in replies])
    return given, times, given_up_ms, closed_ms


async def _next(
    tasks: list[asyncio.Task[tuple[Reply, asyncio.StreamWriter]]],
    known: set[asyncio.StreamWriter],
) -> tuple[Reply, asyncio.StreamWriter]:
    """The reply that comes next, and its connection; exactly one may."""
    while True:
        new = [task.result() for task in tasks if task.done() and task.result()[1] not in known]
        if new:
            await asyncio.sleep(0.1)
            new = [task.result() for task in tasks if task.done() and task.result()[1] not in known]
            expect(len(new) == 1, [reply[0] for reply, _ in new])
            return new[0]
        await asyncio.sleep(0.001)


async def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--master", action="append", required=True)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    tokens, times, given_up, closed = [], [], [], []
    for _ in range(given.rounds):
        count, values, up_ms, closed_ms = await one_round(given.master, given.clients)
        tokens.append(count)
        times += values
        given_up.append(up_ms)
        closed.append(closed_ms)
    sys.stdout.write(
        f"{given.rounds} rounds of {given.clients} clients at {len(given.master)} masters\n"
        f"tokens given at first: {min(tokens)} to {max(tokens)}\n"
        f"value after the writer's reply: p50 {percentile(times, 0.5):.1f} ms,"
        f" p99 {percentile(times, 0.99):.1f} ms, last {max(times):.1f} ms\n"
        f"token passed on after it was given up: at most {max(given_up):.1f} ms\n"
        f"token passed on after its holder's connection closed: at most {max(closed):.1f} ms\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
