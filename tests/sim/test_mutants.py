"""The simulation has teeth: switches that break a rule are caught within 500 seeds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.mutants import MUTANTS, NOT_CAUGHT

SEEDS = 500


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_broken_rule_is_caught(name: str) -> None:
    if name in NOT_CAUGHT:
        pytest.skip(NOT_CAUGHT[name])
    command = [sys.executable, "-m", "tests.sim", "--mutant", name]
    command += ["--seeds", str(SEEDS), "--most", "1", "--jobs", "1"]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout, done.stdout + done.stderr
