"""What a token costs a plain GET: `python -m bench.tokens`, in one process, without network, kernel or node, interpreted.

A connection of the fast path gets the bytes of one request at a time, and a router that has the entry answers at once, so
what is measured is all that a master does for a GET between two system calls. Without tokens, with one for all keys and
with one for a prefix take turns; the ratio is the median of those of all turns, so that what else runs on the machine
falls on all of them alike.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

from master.fastpath.server import FastPath
from master.http.access import Gate
from master.http.limits import Limits
from master.http.origin_check import Authority
from master.http.request_counters import Counters
from master.http.responses import Replies
from ringmaster.access.grant import digest_of, make_grant, new_token
from ringmaster.protocol.entry import JSON, pack
from ringmaster.routing.copies import Copies
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock

REQUESTS = 500
ROUNDS = 1500
TAKEN = ("read", "write")


class _Node:
    """A router whose node answers at once."""

    in_flight = answered = 0
    copies = Copies(SystemClock(), lambda _key: None, 0)

    def __init__(self) -> None:
        self._entry = pack(
            slot=0,
            term=3,
            seq=7,
            expires_ms=0,
            written_s=0,
            flags=JSON,
            meta=b"",
            value=b'"x"' * 30,
        )

    def get_nowait(self, key: bytes, pending: Any) -> None:
        pending.route = None
        pending.replied(self._entry)

    async def read_many(self, wanted: Any, deadline: float) -> list[Any]:
        return []


class _Transport:
    """Counts what is written."""

    def __init__(self) -> None:
        self.hits = 0

    def write(self, data: bytes) -> None:
        self.hits += data.startswith(b"HTTP/1.1 200 OK")

    def get_extra_info(self, name: str) -> None:
        """Nothing is known."""

    def close(self) -> None:
        """Nothing to close."""

    abort = close


def asks(prefixes: tuple[str, ...] | None) -> Callable[[], float]:
    """Sends `REQUESTS` and returns the microseconds of each; `prefixes` None: without tokens."""
    clock = ClusterClock(SystemClock())
    gate, field = Gate(), b""
    if prefixes is not None:
        token = new_token()
        gate.replace([make_grant("app", digest_of(token), TAKEN, prefixes)])
        field = b"Authorization: Bearer %b\r\n" % token.encode()
    path = FastPath(
        cast(Any, _Node()),
        Replies(clock, private=not gate.is_open),
        Counters(),
        Authority(),
        Limits(),
        clock,
        cast(Any, None),
        gate=gate,
    )
    connection: Any = path.protocol()
    transport = _Transport()
    connection.connection_made(transport)
    head = b" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n%b\r\n" % field
    requests = [b"GET /data/app/%d%b" % (number, head) for number in range(REQUESTS)]
    connection.data_received(requests[0])

    def run() -> float:
        before = transport.hits
        began = time.perf_counter()
        for request in requests:
            connection.data_received(request)
        took = time.perf_counter() - began
        if transport.hits - before != REQUESTS:
            raise RuntimeError("not every request was a hit of the fast path")
        return took / REQUESTS * 1e6

    return run


async def _measure() -> None:
    kinds = {
        "without tokens": asks(None),
        "a token for all keys": asks(()),
        "a token for one prefix": asks(("app/",)),
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    gc.disable()
    for number in range(ROUNDS):
        order = [*kinds] if number % 2 else [*reversed(kinds)]
        for kind in order:
            took[kind].append(kinds[kind]())
    bare = took["without tokens"]
    for kind, times in took.items():
        ratio = statistics.median(mine / his for mine, his in zip(times, bare, strict=True))
        print(f"{kind:24} {statistics.median(times):7.3f} us  {ratio - 1:+.2%}")


if __name__ == "__main__":
    asyncio.run(_measure())
