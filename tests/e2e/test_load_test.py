"""load_test/loadTest.sh against a real cluster, and against none."""

from __future__ import annotations

import csv
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster

SCRIPT = Path(__file__).parents[2] / "load_test" / "loadTest.sh"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments],
        cwd=folder, env=os.environ | more, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def test_it_reports_throughput_percentiles_hits_and_failures(
    shared_cluster: Cluster, tmp_path: Path
) -> None:
    done = run(
        tmp_path, "--host", shared_cluster.url, "--users", "10", "--time", "4s", "--out", "out",
        "--keys", "200", "--zipf-s", "1.1", "--value-size", "50", "--bulk-size", "20",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"throughput +[\d,]+ requests/s over [34]\.\d s, no think time", done.stdout)
    ratio = re.search(r"hit ratio +([\d.]+)% \(([\d,]+) hits, ([\d,]+) misses", done.stdout)
    assert ratio
    assert 50 < float(ratio[1]) < 100
    assert re.search(r"failures +0 of [\d,]+\n", done.stdout)
    assert len(done.stdout.splitlines()) <= 24

    out = tmp_path / "out"
    assert "<html" in (out / "report.html").read_text()
    assert (out / "summary.txt").read_text() in done.stdout
    with (out / "stats.csv").open(newline="") as lines:
        rows = {row["Name"]: row for row in csv.DictReader(lines)}
    for name in (
        "GET /data/{key}", "GET /data/{key} miss", "POST /data", "DELETE /data/{key}",
        "POST /data/bulk", "POST /data/bulk/get", "Aggregated",
    ):  # fmt: skip
        assert int(rows[name]["Request Count"]) > 0
        assert int(rows[name]["Failure Count"]) == 0
    # Misses are requests like others, with times of their own.
    assert float(rows["GET /data/{key} miss"]["99%"]) > 0


def test_a_proxy_of_the_environment_is_not_asked(shared_cluster: Cluster, tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    done = run(
        tmp_path, "--host", shared_cluster.url, "--users", "2", "--time", "1s", "--out", "out",
        "--key-prefix", "proxied-",
        **dict.fromkeys(names, nobody), no_proxy="",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_refused_request_is_a_failure(shared_cluster: Cluster, tmp_path: Path) -> None:
    done = run(
        tmp_path, "--host", shared_cluster.url, "--users", "2", "--time", "2s", "--out", "out",
        "--key-prefix", "%FF", "ReadHeavy",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"failures +[1-9]", done.stdout)


def test_without_a_cluster_it_says_how_to_start_one(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = run(tmp_path, "--host", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 2
    assert "no cluster answers" in done.stderr
    assert "make -C" in done.stderr
    assert "docker-compose" in done.stderr


@pytest.mark.parametrize("arguments", [["--users", "many"], ["--time"], ["--users=0"]])
def test_a_wrong_option_is_explained(arguments: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("loadTest: --")
