"""Thousands of seeds, in chunks that workers share: others each day (`tests/sim/start.py`), and those that once failed.

RINGMASTER_SIM_SEEDS runs more or fewer, RINGMASTER_SIM_START those of another day. A chunk is named by its distance from the
first seed, so that workers agree on the names at midnight, too.
"""

import os
import subprocess
import sys
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


def test_a_seed_gives_the_same_run_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.sim", "--seed", "3"]
    outputs = {
        subprocess.run(
            command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
        ).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1
    assert "digest" in outputs.pop()
