"""Processor time of a cluster that nobody asks anything: one master and two nodes, as `ringmaster up` starts them, compiled.

usage: python -m bench.idle [--seconds S] [--interpreted]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from bench.peers import BOTH_CORES, Missing, Ringmaster

SETTLED_S: Final = 15.0
"""After so long the copies are in sync and the first snapshot round is over."""


def processes(folder: Path) -> dict[int, str]:
    """By id, who runs with that data folder: `master`, `aux`, or `up` for who started them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if any(word.startswith(str(folder)) for word in words):
            kinds = [word for word in words if word in {"master", "aux"}]
            found[int(path.name)] = kinds[0] if kinds else "up"
    return found


def spent_ms(process: int) -> float:
    """Of processor time, by all threads so far."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def main() -> int:
    """Print milliseconds of processor time a second, by kind of process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--interpreted", action="store_true")
    given = parser.parse_args()
    try:
        with Ringmaster(BOTH_CORES, compiled=not given.interpreted) as peer:
            time.sleep(SETTLED_S)
            known = processes(peer.folder)
            before = {process: spent_ms(process) for process in known}
            time.sleep(given.seconds)
            spent = {
                process: (spent_ms(process) - before[process]) / given.seconds for process in known
            }
    except Missing as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    for process, kind in known.items():
        sys.stdout.write(f"{kind:8} {spent[process]:6.2f} ms/s\n")
    serving = sum(each for process, each in spent.items() if known[process] != "up")
    sys.stdout.write(f"master and nodes together {serving:.2f} ms/s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
