"""Prometheus' own tool on the configuration and the alert rules."""

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "prometheus"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
    ),
]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["check", "config"], "prometheus.yml"),
        (["check", "config"], "local.yml"),
        (["check", "rules"], "alerts.yml"),
        # Each alert fires when it should, and none on a healthy cluster.
        (["test", "rules"], "alerts_test.yml"),
    ],
)
def test_prometheus_accepts_it(command: list[str], name: str) -> None:
    done = subprocess.run(
        ["promtool", *command, name],
        cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
