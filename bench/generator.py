"""A client of many connections, in one process: closed loop or open loop, and what it heard by kind of reply.

`python -m bench.generator --port N --connections 2000 --seconds 10 [--rate 5000] [--patience 1] < REQUESTS`, where REQUESTS is a JSON
list of texts, whole requests that are sent in turns. Prints a `Heard` as JSON.

wrk has no open loop, and does not say how long refusals took apart from the rest. Without `--rate` the loop is closed:
each connection sends its next request as soon as it has the reply. With it so many a second are due at even distances, whatever has
been answered. A request that finds no free connection when it is due is not sent, and counted as `unsent`: the client's own
pool is exhausted. Nothing here waits for a reply, so latencies count from sending. With `--patience` a connection that is refused sends
nothing for so many seconds, as `Retry-After` asks.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from select import EPOLLIN, epoll
from typing import Any, Final

from bench.peers import ROOT

WARM_S: Final = 2.0
"""What is heard in the first so many seconds is not counted."""

_MOST_DUE: Final = 256
"""So many requests are sent at most until replies are looked at again."""

_REFUSED: Final = (b"503", b"429")
_LENGTH: Final = b"ontent-Length: "


@dataclass(frozen=True, slots=True)
class Kind:
    """Replies of one kind: how many a second, and percentiles in milliseconds."""

    rps: float
    p50_ms: float
    p99_ms: float
    most_ms: float


@dataclass(slots=True)
class Heard:
    """`offered`: requests a second that were sent or could not be. `failed`: other statuses, and connections that were lost."""

    offered: float
    accepted: Kind
    refused: Kind
    unsent: float
    failed: int


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    since: float = 0.0
    held: bytes = b""


@dataclass(slots=True)
class _Tally:
    accepted: array[float] = field(default_factory=lambda: array("d"))
    refused: array[float] = field(default_factory=lambda: array("d"))
    sent: int = 0
    unsent: int = 0
    failed: int = 0


class _Client:
    def __init__(
        self, port: int, connections: int, requests: Sequence[bytes], patience_s: float = 0.0
    ) -> None:
        self._port = port
        self._patience_s = patience_s
        # (when it may be used again, connection), oldest first.
        self._resting: deque[tuple[float, _Connection]] = deque()
        self._requests = requests
        self._next = 0
        self._poll = epoll()
        self._connections: dict[int, _Connection] = {}
        self._free: deque[_Connection] = deque()
        self.tally = _Tally()
        for _ in range(connections):
            self._free.append(self._connect())

    def _connect(self) -> _Connection:
        link = socket.create_connection(("127.0.0.1", self._port), timeout=30.0)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setblocking(False)
        connection = _Connection(link)
        self._connections[link.fileno()] = connection
        self._poll.register(link.fileno(), EPOLLIN)
        return connection

    def closed(self, until: float) -> None:
        """Send on every connection, and again after each reply."""
        while self._free:
            self._send(self._free.popleft(), time.monotonic())
        while (now := time.monotonic()) < until:
            self._hear(self._wake(now, until - now))
            free = self._free
            now = time.monotonic()
            while free:
                self._send(free.popleft(), now)

    def open(self, until: float, rate: float) -> None:
        """Send what is due, if a connection is free."""
        began = time.monotonic()
        number = 0
        while (now := time.monotonic()) < until:
            most = number + _MOST_DUE
            while number < most and began + number / rate <= now:
                number += 1
                if self._free:
                    self._send(self._free.popleft(), now)
                else:
                    self.tally.unsent += 1
            now = time.monotonic()
            self._hear(self._wake(now, max(0.0, began + number / rate - now)))

    def _wake(self, now: float, within_s: float) -> float:
        """Free the connections that have rested; returns `within_s`, or less if one is soon to be freed."""
        resting = self._resting
        while resting and resting[0][0] <= now:
            self._free.append(resting.popleft()[1])
        return min(within_s, max(resting[0][0] - now, 0.0)) if resting else within_s

    def close(self) -> None:
        for connection in self._connections.values():
            connection.socket.close()

    def _send(self, connection: _Connection, since: float) -> None:
        number = self._next
        self._next = number + 1 if number + 1 < len(self._requests) else 0
        connection.since = since
        try:
            connection.socket.send(self._requests[number])
        except OSError:
            self._lost(connection)
        self.tally.sent += 1

    def _hear(self, within_s: float) -> None:
        connections, free, tally = self._connections, self._free, self.tally
        for number, _ in self._poll.poll(within_s):
            connection = connections[number]
            try:
                data = connection.socket.recv(262_144)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self._lost(connection)
                continue
            if connection.held:
                data = connection.held + data
            end = data.find(b"\r\n\r\n")
            at = data.find(_LENGTH, 0, end) + len(_LENGTH)
            if end < 0 or len(data) < end + 4 + int(data[at : data.index(b"\r", at)]):
                connection.held = data
                continue
            connection.held = b""
            status = data[9:12]
            if status == b"200":
                tally.accepted.append(time.monotonic() - connection.since)
            elif status in _REFUSED:
                now = time.monotonic()
                tally.refused.append(now - connection.since)
                if self._patience_s:
                    self._resting.append((now + self._patience_s, connection))
                    continue
            else:
                tally.failed += 1
            free.append(connection)

    def _lost(self, connection: _Connection) -> None:
        self.tally.failed += 1
        number = connection.socket.fileno()
        self._poll.unregister(number)
        del self._connections[number]
        connection.socket.close()
        # Who is not let in again has a connection less.
        with suppress(OSError):
            self._free.append(self._connect())


def load(
    port: int,
    requests: Sequence[str],
    *,
    cores: str,
    connections: int,
    seconds: float,
    rate: float = 0.0,
    patience_s: float = 0.0,
) -> subprocess.Popen[str]:
    """Begin to load a server from a process of its own; `heard` waits for its end."""
    process = subprocess.Popen(
        [
            "taskset", "-c", cores, sys.executable, "-m", "bench.generator", "--port", str(port),
            "--connections", str(connections), "--seconds", str(seconds), "--rate", str(rate),
            "--patience", str(patience_s),
        ],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if process.stdin is not None:
        process.stdin.write(json.dumps(requests))
        process.stdin.close()
        # Or `communicate` would write to it.
        process.stdin = None
    return process


def heard(process: subprocess.Popen[str], within_s: float) -> Heard:
    """What the generator heard. Raises `RuntimeError` if it failed."""
    output, _ = process.communicate(timeout=within_s)
    if process.returncode:
        raise RuntimeError("the generator failed")
    told: dict[str, Any] = json.loads(output)
    return Heard(
        told["offered"],
        Kind(**told["accepted"]),
        Kind(**told["refused"]),
        told["unsent"],
        told["failed"],
    )


def _kind(latencies: array[float], seconds: float) -> Kind:
    found = sorted(latencies) or [0.0]
    rps = len(latencies) / seconds

    def at(part: float) -> float:
        return 1000 * found[min(int(len(found) * part), len(found) - 1)]

    return Kind(rps, at(0.5), at(0.99), at(1.0))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="bench.generator")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--patience", type=float, default=0.0)
    given = parser.parse_args()
    requests = [text.encode() for text in json.load(sys.stdin)]
    client = _Client(given.port, given.connections, requests, given.patience)
    gc.freeze()
    gc.disable()
    for seconds in (WARM_S, given.seconds):
        client.tally = _Tally()
        until = time.monotonic() + seconds
        if given.rate:
            client.open(until, given.rate)
        else:
            client.closed(until)
    client.close()
    tally, seconds = client.tally, given.seconds
    told = Heard(
        (tally.sent + tally.unsent) / seconds,
        _kind(tally.accepted, seconds),
        _kind(tally.refused, seconds),
        tally.unsent / seconds,
        tally.failed,
    )
    json.dump(asdict(told), sys.stdout)


if __name__ == "__main__":
    main()
