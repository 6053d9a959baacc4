"""Thousands of seeds, in chunks that workers share: others each day (`tests/sim/start.py`), and those that once failed.

RINGMASTER_SIM_SEEDS runs more or fewer, RINGMASTER_SIM_START those of another day. A chunk is named by its distance from the
first seed, so that workers agree on the names at midnight, too.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.sim.start import seeds_of_this_run

SEEDS = seeds_of_this_run()
MANY = len(SEEDS) > 10_000
CHUNK = 1000 if MANY else 50
REGRESSIONS = Path(__file__).with_name("regressions.txt")


def regressions() -> list[int]:
    """Seeds that once failed, one a line; the rest of a line says what it was."""
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def run(*options: str) -> None:
    """In a process of its own: the hash seed decides the order of sets, so it has to be fixed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--jobs", "1", *options],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(0 if MANY else 600)
@pytest.mark.parametrize("offset", range(0, len(SEEDS), CHUNK))
def test_no_seed_breaks_a_promise(offset: int) -> None:
    chunk = SEEDS[offset : offset + CHUNK]
    run("--start", str(chunk.start), "--seeds", str(len(chunk)))


def test_seeds_that_once_failed_stay_fixed() -> None:
    for seed in regressions():
        run("--start", str(seed), "--seeds", "1")


@pytest.mark.timeout(600)
def test_seeds_give_the_same_runs_in_another_process_and_order() -> None:
    """Nothing may depend on where objects lie, on how texts are hashed, or on what ran before."""
    seeds = (3, 6, 16, 55, 57, *range(216, 229))
    script = (
        "import sys; from tests.sim.run import run_seed\n"
        "for seed in sys.argv[1:]: print(seed, run_seed(int(seed)).digest())"
    )

    def digests(order: Iterable[int], hashes: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, order)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        )
        return sorted(done.stdout.splitlines())

    assert digests(seeds, "0") == digests(reversed(seeds), "1")
