"""Schemathesis reads the description and sends whatever it allows, and much that it does not, to a master with fast path and to one without.

No reply may be a 5xx, have a status or a content type that is not described, lack a header field that is, or break its schema.
`schemathesis.toml` beside this file says what is left out, and why. Others each day; the header of the run names the seed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.live import LiveCluster
from tests.conformance.seed_of_day import SEED_VARIABLE, seed_of_day

RUN_S = {"fastpath": 45, "aiohttp": 25}
"""For how long each master is asked."""

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(4 * max(RUN_S.values()))
@pytest.mark.parametrize("name", RUN_S)
def test_every_reply_is_one_that_is_described(tmp_path: Path, name: str) -> None:
    seed, run_s = seed_of_day(), RUN_S[name]
    with LiveCluster(tmp_path).running() as cluster:
        host, port = cluster.front(name).address
        report = tmp_path / "report.json"
        options = [
            "--phases=examples,coverage,fuzzing", f"--max-time={run_s}", "--max-examples=1000", f"--seed={seed}",
            "--continue-on-failure", "--request-timeout=10", "--generation-database=none", "--no-color",
            "--warnings=off", "--report=json", f"--report-json-path={report}",
        ]  # fmt: skip
        # In its own process: it brings a pytest plugin, warnings and threads of its own.
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
        done = subprocess.run(
            [*command, f"http://{host}:{port}/openapi.json", *options],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3 * run_s,
            check=False,
        )
        assert done.returncode == 0, f"{SEED_VARIABLE}={seed} repeats this\n{done.stdout[-20_000:]}"
        told = json.loads(report.read_text())
        operations = told["operations"]
        assert operations["tested"] == operations["selected"] == operations["total"] - 1
        assert told["test_cases"]["generated"] > 10 * operations["tested"]
        for front in RUN_S:
            assert cluster.front(front).request("GET", "/healthz").status == 200
