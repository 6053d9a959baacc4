"""Thousands of seeds, in chunks that workers share. RINGMASTER_SIM_SEEDS runs more (or fewer)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SEEDS = int(os.environ.get("RINGMASTER_SIM_SEEDS", "2000"))
CHUNK = 50 if SEEDS <= 10_000 else 1000
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


@pytest.mark.timeout(0 if SEEDS > 10_000 else 600)
@pytest.mark.parametrize("start", range(0, SEEDS, CHUNK))
def test_no_seed_breaks_a_promise(start: int) -> None:
    run("--start", str(start), "--seeds", str(min(CHUNK, SEEDS - start)))


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
