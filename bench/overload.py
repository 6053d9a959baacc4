"""What is left of a cluster's service when more is asked of it than it can do: `python -m bench.overload [--rounds 3] [--only TEXT …]`.

For each contestant, in each round: its capacity (closed loop, 64 connections), then an open loop at 80 % of that, a closed loop of 2,000
connections, an open loop at 5 times the capacity over 2,000 connections, and that with clients that keep to `Retry-After`. Prints a table: requests a second that were offered and
accepted, the part of the capacity that is, p99 of what was accepted and its ratio to the p99 at 80 % load, what was refused (503 or 429) and how long that
took; and for Ringmaster the least time that any lease had left, and whether the epoch changed. Figures are medians over the rounds.

"One core": all servers on core 0, the client on core 1. Behind nginx all may use both. The client is `bench.generator`; it is a Python
process, which sends some 60,000 to 90,000 requests a second at most: where 5 times the capacity is more than that, `offered` says what it was, and the
case of bulk reads is the one in which it is reached.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from bench.generator import WARM_S, Heard, heard, load
from bench.peers import BOTH_CORES, SERVER_CORE, Missing, Peer, Ringmaster, Webdis, compiled_path
from bench.report import machine

CONNECTIONS: Final = 2000
KEYS: Final = 10_000
PATIENCE_S: Final = 1.0
DISTINCT: Final = 1009
"""So many different requests are sent in turns."""

_lease = re.compile(r"^ringmaster_aux_lease_seconds ([-0-9.e]+)$", re.MULTILINE).search


@dataclass(frozen=True, slots=True)
class Contestant:
    """`request` makes one request for `peer`. The client gets `client_cores`."""

    label: str
    make: Callable[[bool], Peer]
    request: Callable[[Peer], str]
    client_cores: str = "1"


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement, and what happened in the cluster meanwhile."""

    heard: Heard
    least_lease_s: float
    epochs: int


def get(peer: Peer) -> str:
    """A GET of 100 bytes."""
    path = peer.get_path(f"k{random.randrange(KEYS)}")
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"


def set_(_: Peer) -> str:
    """A POST of 100 bytes."""
    body = f'{{"key":"k{random.randrange(KEYS)}","value":"{"x" * 100}"}}'
    return f"POST /data HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def bulk(_: Peer) -> str:
    """A bulk read of 100 keys."""
    body = json.dumps([f"k{number}" for number in random.sample(range(KEYS), 100)])
    return f"POST /data/bulk/get HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"


CONTESTANTS: Final = (
    Contestant("GET, one core", lambda fast: Ringmaster(SERVER_CORE, compiled=fast), get),
    Contestant("POST, one core", lambda fast: Ringmaster(SERVER_CORE, compiled=fast), set_),
    Contestant("bulk get of 100, one core", lambda fast: Ringmaster(SERVER_CORE, compiled=fast), bulk),
    Contestant(
        "GET, one core, no fast path",
        lambda fast: Ringmaster(SERVER_CORE, compiled=fast, fastpath=False), get,
    ),
    Contestant(
        "GET behind nginx", lambda fast: Ringmaster(BOTH_CORES, compiled=fast, nginx=True), get, BOTH_CORES
    ),
    Contestant("webdis + redis, GET, one core", lambda _: Webdis(SERVER_CORE), get),
    Contestant(
        "webdis + redis, GET behind nginx", lambda _: Webdis(BOTH_CORES, nginx=True), get, BOTH_CORES
    ),
)  # fmt: skip


class Watch(threading.Thread):
    """Looks at leases and epoch of a cluster twice a second, until `stop`."""

    def __init__(self, cluster: Ringmaster) -> None:
        super().__init__(daemon=True)
        self._master = f"http://127.0.0.1:{cluster.port + 1}"
        self._nodes = [
            f"http://127.0.0.1:{cluster.aux_port + 2 + number}/metrics" for number in range(2)
        ]
        self._stopped = threading.Event()
        self.least_lease_s = float("inf")
        self.epochs: set[int] = set()

    def run(self) -> None:
        while not self._stopped.wait(0.5):
            self.look()

    def look(self) -> None:
        """Once, now."""
        with suppress(URLError, OSError):
            for url in self._nodes:
                found = _lease(_text(url))
                if found is not None:
                    self.least_lease_s = min(self.least_lease_s, float(found[1]))
            self.epochs.add(json.loads(_text(f"{self._master}/cluster"))["epoch"])

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        self.look()


def _text(url: str) -> str:
    with urlopen(url, timeout=5.0) as response:  # noqa: S310 - loopback
        return str(response.read().decode())


def measure(
    peer: Peer,
    contestant: Contestant,
    connections: int,
    seconds: float,
    rate: float = 0.0,
    patience_s: float = 0.0,
) -> Row:
    """Load `peer` once."""
    requests = [contestant.request(peer) for _ in range(DISTINCT)]
    watch = Watch(peer) if isinstance(peer, Ringmaster) else None
    if watch is not None:
        watch.look()
        watch.start()
    client = load(
        peer.port, requests, cores=contestant.client_cores, connections=connections,
        seconds=seconds, rate=rate, patience_s=patience_s,
    )  # fmt: skip
    try:
        found = heard(client, seconds + WARM_S + 60.0)
    finally:
        if watch is not None:
            watch.stop()
    if watch is None:
        return Row(found, 0.0, 0)
    return Row(found, watch.least_lease_s, len(watch.epochs) - 1)


def play(contestant: Contestant, seconds: float, *, compiled: bool) -> dict[str, Row]:
    """One round."""
    with contestant.make(compiled) as peer:
        peer.load("k", KEYS, 100)
        measure(peer, contestant, 64, 1.0)
        rows = {"64, closed": measure(peer, contestant, 64, seconds)}
        most = rows["64, closed"].heard.accepted.rps
        for name, connections, rate, patience_s in (
            ("80 %, open", 256, 0.8 * most, 0.0),
            ("2,000, closed", CONNECTIONS, 0.0, 0.0),
            ("5 ×, open", CONNECTIONS, 5 * most, 0.0),
            ("5 ×, open, patient", CONNECTIONS, 5 * most, PATIENCE_S),
        ):
            rows[name] = measure(peer, contestant, connections, seconds, rate, patience_s)
            time.sleep(1.0)
        return rows


def table(label: str, rounds: Sequence[dict[str, Row]]) -> str:
    """The lines of one contestant."""
    lines = []
    for case in rounds[0]:
        rows = [each[case] for each in rounds]
        found = [row.heard for row in rows]
        goodput = median(
            each[case].heard.accepted.rps / each["64, closed"].heard.accepted.rps for each in rounds
        )
        slower = median(
            each[case].heard.accepted.p99_ms / each["80 %, open"].heard.accepted.p99_ms
            for each in rounds
        )
        leases = min(row.least_lease_s for row in rows)
        ours = f"{leases:.2f} | {sum(row.epochs for row in rows)}" if leases else " | "
        lines.append(
            f"| {label} | {case} | {median(each.offered for each in found):,.0f} "
            f"| {median(each.accepted.rps for each in found):,.0f} | {goodput:.2f} "
            f"| {median(each.accepted.p50_ms for each in found):.2f} "
            f"| {median(each.accepted.p99_ms for each in found):.2f} | {slower:.1f} "
            f"| {median(each.refused.rps for each in found):,.0f} "
            f"| {median(each.refused.p50_ms for each in found):.2f} "
            f"| {median(each.refused.p99_ms for each in found):.2f} "
            f"| {median(each.unsent for each in found):,.0f} | {sum(each.failed for each in found)} | {ours} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="bench.overload", description=__doc__)
    parser.add_argument("--only", action="append", help="labels that contain this text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--interpreted", action="store_true")
    given = parser.parse_args()
    if not (given.interpreted or compiled_path()):
        sys.exit("overload: `make compiled` first, or --interpreted")
    chosen = [
        each
        for each in CONTESTANTS
        if not given.only or any(text in each.label for text in given.only)
    ]
    measured: dict[str, list[dict[str, Row]]] = {each.label: [] for each in chosen}
    for number in range(given.rounds):
        for each in chosen:
            sys.stderr.write(f"round {number + 1} of {given.rounds}: {each.label}\n")
            try:
                rows = play(each, given.seconds, compiled=not given.interpreted)
            except Missing as reason:
                sys.stderr.write(f"  left out: {reason}\n")
                continue
            measured[each.label].append(rows)
    print(", ".join(f"{name} {value}" for name, value in machine().items()), end="\n\n")
    print(
        "| what | load | offered/s | accepted/s | of capacity | p50 ms | p99 ms | p99 to that at 80 % | refused/s "
        "| p50 ms | p99 ms | not sent/s | failed | least lease s | new epochs |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for label, rounds in measured.items():
        if rounds:
            print(table(label, rounds), flush=True)


if __name__ == "__main__":
    main()
