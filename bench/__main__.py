"""`make bench`: every contestant, side by side, several rounds, in one run.

In each round every contestant is started, loaded, measured and ended before the next one begins, so no idle
process of one disturbs another, and drift of the machine falls on all alike.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.peers import SERVER_CORE, Missing, Peer, Ringmaster, Webdis
from bench.plan import ENTRIES, LEAD_S, Case, Entry
from bench.report import as_json, machine, markdown, plot
from bench.wrk import Measurement, redis_benchmark, wrk

Measured = dict[tuple[str, str], list[Measurement]]


def zipf_file(folder: Path, keys: int, exponent: float = 0.99, draws: int = 200_000) -> Path:
    """A file of `draws` key numbers below `keys`, drawn by a Zipf law and shuffled over the key space."""
    source = random.Random(7)
    total, sums = 0.0, []
    for rank in range(1, keys + 1):
        total += rank**-exponent
        sums.append(total)
    path = folder / "zipf.txt"
    # A multiplier without a common factor with `keys` spreads the ranks over all numbers.
    drawn = (bisect.bisect(sums, source.random() * total) * 611_953 % keys for _ in range(draws))
    path.write_text("\n".join(map(str, drawn)) + "\n")
    return path


def measure(entry: Entry, peer: Peer, case: Case, seconds: float, zipf: Path) -> Measurement:
    """One case of one contestant that is loaded."""
    environment = {
        "BENCH_KIND": case.kind,
        "BENCH_PEER": peer.name,
        "BENCH_PREFIX": case.prefix,
        "BENCH_KEYS": str(case.keys),
        "BENCH_SIZE": str(case.size),
        "BENCH_GET": peer.get_path(""),
        "BENCH_TAGS": peer.tags_file(case.prefix) if case.kind == "same" else "",
        "BENCH_ZIPF": str(zipf) if case.zipf else "",
    }
    return wrk(
        peer.url,
        cores=entry.client_cores,
        threads=entry.threads,
        seconds=seconds,
        environment=environment,
    )


def play(entry: Entry, seconds: float, zipf: Path, measured: Measured) -> None:
    """One round of one contestant."""
    with entry.make() as peer:
        for prefix, keys, size in {(case.prefix, case.keys, case.size) for case in entry.cases}:
            peer.load(prefix, keys, size)
        measure(entry, peer, entry.cases[0], entry.warm_s, zipf)
        for case in entry.cases:
            measure(entry, peer, case, LEAD_S, zipf)
            found = measure(entry, peer, case, seconds, zipf)
            measured.setdefault((entry.label, case.name), []).append(found)
            sys.stderr.write(
                f"  {entry.label}: {case.name}: {found.rps:,.0f}/s p99 {found.p99_ms:.2f} ms\n"
            )


def play_wire(measured: Measured) -> None:
    """The aux server alone against Redis, with Redis's own benchmark."""
    for label, make, door_of in (
        (
            "aux",
            lambda: Ringmaster(SERVER_CORE, nodes=1),
            lambda peer: (peer.aux_port, peer.redis_password),
        ),
        ("redis", lambda: Webdis(SERVER_CORE), lambda peer: (peer.redis_port, "")),
    ):
        with make() as peer:
            port, password = door_of(peer)
            for command in ("set", "get"):
                rps = redis_benchmark(
                    port, command, cores="1", requests=200_000, pipeline=16, password=password
                )
                name = f"redis-benchmark {command.upper()}"
                measured.setdefault((label, name), []).append(Measurement(rps, 0.0, 0.0, 0))


def _chosen(without: str) -> list[Entry]:
    """The entries, without the cases that contain `without` (none of them if that is empty), nor who has none left."""
    if not without:
        return list(ENTRIES)
    left = (
        replace(entry, cases=tuple(case for case in entry.cases if without not in case.name))
        for entry in ENTRIES
    )
    return [entry for entry in left if entry.cases]


def main() -> int:
    """Run, print, and write `bench/results/`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each case in each round")
    parser.add_argument("--without", default="", help="leave out cases that contain this text")
    parser.add_argument("--only", default="", help="labels that contain this text")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    given = parser.parse_args()
    # What was started is ended in the same way when this is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    about, measured, skipped = machine(), Measured(), dict[str, str]()
    if (os.cpu_count() or 1) < 2:
        sys.stderr.write("two cores are needed: one for the servers, one for wrk\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        zipf = zipf_file(Path(folder), 1_000_000)
        for number in range(given.rounds):
            sys.stderr.write(f"round {number + 1} of {given.rounds}, {time.strftime('%H:%M:%S')}\n")
            for entry in _chosen(given.without):
                if given.only not in entry.label or entry.label in skipped:
                    continue
                try:
                    play(entry, given.seconds, zipf, measured)
                except Missing as reason:
                    skipped[entry.label] = str(reason)
            if not given.only:
                try:
                    play_wire(measured)
                except Missing as reason:
                    skipped["aux against redis"] = str(reason)
    given.out.mkdir(exist_ok=True)
    text = markdown(measured, skipped, about)
    sys.stdout.write(text)
    if not given.only:
        (given.out / "latest.md").write_text(text)
        (given.out / "latest.json").write_text(
            json.dumps(as_json(measured, skipped, about), indent=1)
        )
        plot(measured, given.out / "latest.svg")
        plot(measured, given.out / "latest.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
