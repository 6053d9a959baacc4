"""load_test/loadTest.sh against a real cluster, and against none."""

from __future__ import annotations

import csv
import json
import lzma
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, alive

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
    said = re.search(r"throughput +([\d,]+) requests/s over ([\d.]+) s, no think time", done.stdout)
    assert said
    rate, seconds = float(said[1].replace(",", "")), float(said[2])
    # A machine with other work starts late and stops late; the two still give the count.
    assert 1 < seconds < 30
    total = re.search(r"failures +0 of ([\d,]+)\n", done.stdout)
    assert total
    assert rate * seconds == pytest.approx(int(total[1].replace(",", "")), rel=0.1)
    ratio = re.search(r"hit ratio +([\d.]+)% \(([\d,]+) hits, ([\d,]+) misses", done.stdout)
    assert ratio
    assert 50 < float(ratio[1]) < 100
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


PLOTS = ("requests", "latency", "hits", "reads-by-node", "memory-by-node", "primaries-by-node")


@pytest.mark.parametrize(
    ("scenario", "requests"),
    [
        ("read-heavy", ["GET /data/{key}", "POST /data"]),
        ("write-heavy", ["POST /data", "DELETE /data/{key}"]),
        ("hot-key", ["GET /data/{key}"]),
        ("stampede", ["GET /data/{key} waiting", "GET /data/{key} token", "POST /data fill"]),
        ("bulk", ["POST /data/bulk", "POST /data/bulk/get"]),
    ],
)
def test_a_scenario_leaves_a_report_with_plots(
    shared_cluster: Cluster, tmp_path: Path, scenario: str, requests: list[str]
) -> None:
    done = run(
        tmp_path, "--host", shared_cluster.url, "--scenario", scenario, "--users", "6", "--time", "3s",
        "--out", "out", "--keys", "100", "--bulk-size", "20", "--key-prefix", f"{scenario}:",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "out" / "run.json").read_text())
    assert kept["scenario"] == scenario
    counts = {row["name"]: row["count"] for row in kept["requests"]}
    assert all(counts[name] > 0 for name in requests)
    assert sum(row[1] for row in kept["seconds"]) == counts["all"]
    nodes = {node["id"] for sample in kept["cluster"] for node in sample["nodes"]}
    assert nodes == set(shared_cluster.nodes)
    page = (tmp_path / "out" / "report.html").read_text()
    for name in PLOTS:
        assert f'src="{name}.svg"' in page
        assert (tmp_path / "out" / f"{name}.svg").stat().st_size > 0


def test_several_processes_replay_a_trace_once_and_are_compared_with_the_run_before(
    shared_cluster: Cluster, tmp_path: Path
) -> None:
    trace = "".join(f"page/{n % 50}?a=%41 b\t{20 + n % 50}\n" for n in range(300))
    (tmp_path / "some.tsv").write_text(trace)
    given = [
        "--host",
        shared_cluster.url,
        "--users",
        "4",
        "--trace",
        "some.tsv",
        "--processes",
        "2",
    ]
    first = run(tmp_path, *given, "--out", "results/first")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "against" not in first.stdout
    second = run(tmp_path, *given, "--out", "results/second")
    assert second.returncode == 0, second.stdout + second.stderr
    for out in ("first", "second"):
        kept = json.loads((tmp_path / "results" / out / "run.json").read_text())
        # Each request of the trace is one key read, whether it was there or not.
        assert sum(row[3] + row[4] for row in kept["seconds"]) == 300
    comparison = second.stdout[second.stdout.index("against first") :]
    for name in ("requests/s", "p50 ms", "p99 ms", "failures", "hit ratio"):
        assert re.search(rf"^{name} .* ", comparison, re.MULTILINE)
    # Everything was there by then.
    assert re.search(r"^hit ratio .* 100\.00%", comparison, re.MULTILINE)


def test_a_trace_that_cannot_be_read_on_is_no_success(
    shared_cluster: Cluster, tmp_path: Path
) -> None:
    with lzma.open(tmp_path / "some.lis.xz", "wt") as trace:
        trace.write("7 3 0 0\nbroken\n9 1 0 1\n")
    done = run(
        tmp_path, "--host", shared_cluster.url, "--users", "1", "--trace", "some.lis.xz", "--out", "out"
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^exception +1 x .*broken", done.stdout, re.MULTILINE)
    counts = json.loads((tmp_path / "out" / "run.json").read_text())["seconds"]
    # The three blocks before it.
    assert sum(row[3] + row[4] for row in counts) == 3


def test_a_failover_kills_a_node_of_the_data_folder_and_marks_it(tmp_path: Path) -> None:
    with Cluster() as cluster:
        cluster.wait_ready()
        before = {name: process.pid for name, process in cluster.nodes.items()}
        done = run(
            tmp_path, "--host", cluster.url, "--scenario", "failover", "--users", "6", "--time", "12s",
            "--processes", "2", "--keys", "200", "--out", "out", "--data-dir", str(cluster.data_dir),
        )  # fmt: skip
        kept = json.loads((tmp_path / "out" / "run.json").read_text())
        (event,) = kept["events"]
        killed = event["text"].split(" ")[0]
        assert event["text"] == f"{killed} killed (SIGKILL of process {before[killed]})"
        assert 5 < event["at"] - kept["started"] < 12
        assert not alive(before[killed])
        untouched = {name: pid for name, pid in before.items() if name != killed}
        assert all(map(alive, untouched.values()))
    # A write that was in flight at that moment may be answered 503, outcome unknown; nothing else may fail.
    reasons = {error["error"] for error in kept["errors"]}
    assert all("outcome unknown" in each or "items refused" in each for each in reasons), reasons
    assert done.returncode == (1 if reasons else 0), done.stdout + done.stderr
    assert f"{killed} killed" in done.stdout
    out = tmp_path / "out"
    assert f"{killed} killed" in (out / "requests.svg").read_text()
    assert f"{killed} killed" in (out / "report.html").read_text()


def test_a_failover_that_can_kill_nothing_is_refused_before_it_begins(
    shared_cluster: Cluster, tmp_path: Path
) -> None:
    done = run(
        tmp_path, "--host", shared_cluster.url, "--scenario", "failover", "--data-dir", str(tmp_path),
        "--compose-file", str(tmp_path / "none.yml"), "--out", "out",
    )  # fmt: skip
    assert done.returncode == 2
    assert "no node can be killed" in done.stderr
    assert f"is no process of this machine with the data folder {tmp_path}" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--users", "many"], ["--time"], ["--users=0"], ["--time", "soon"], ["--scenario", "none"],
        ["--trace", "missing.tsv"], ["--trace", __file__], ["--kill-at=soon"], ["--kill-at", "9", "--time", "9s"], ["--users=1", "--processes=2"], ["--processes", "two"], ["--before", "nowhere"],
    ],
)  # fmt: skip
def test_a_wrong_option_is_explained(arguments: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("loadTest: --")
