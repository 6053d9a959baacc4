"""The simulation has teeth: switches that break a rule are caught within 500 seeds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.mutants import MUTANTS

SEEDS = 500
_MISFIT = re.compile(r"unhandled in|TypeError|AttributeError|wrong arguments")
KNOWN = Path(__file__).with_name("mutant_seeds.txt")


def known_seeds() -> dict[str, str]:
    """The first seed that caught each mutant when it was last looked for: tried first, since it is most likely to."""
    rows = (line.split() for line in KNOWN.read_text().splitlines() if line[:1] not in ("", "#"))
    return {row[0]: row[1] for row in rows}


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The seeds that `options` name, with the mutant; stops at the first that catches it."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.sim",
            "--mutant",
            name,
            "--most",
            "1",
            "--jobs",
            "1",
            *options,
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_broken_rule_is_caught(name: str) -> None:
    seed = known_seeds().get(name, "0")
    done = run(name, "--start", seed, "--seeds", "1")
    if done.returncode == 0:
        done = run(name, "--seeds", str(SEEDS))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout, done.stdout + done.stderr
    # A switch that no longer fits what it patches breaks everything, and shows nothing.
    assert not _MISFIT.search(done.stdout), done.stdout
