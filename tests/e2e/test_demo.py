"""`ringmaster demo` with real clusters: its figures, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ringmaster.client import Client
from tests.e2e.cluster import RINGMASTER
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

QUICK = ["--no-browser", "--entries", "500", "--pause", "0.2"]
FEW_PARTITIONS = "64"
"""They are moved a few at a time, so that few are moved sooner."""


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """With a folder of its own for all that is temporary."""
    return subprocess.Popen(
        [*RINGMASTER, "demo", *QUICK, *words],
        env=os.environ
        | {
            "TMPDIR": str(folder),
            "RINGMASTER_URL": "http://127.0.0.1:9",
            "RINGMASTER_PARTITIONS": FEW_PARTITIONS,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_in(folder: Path) -> list[str]:
    """Those whose command line or environment names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            text = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if os.fsencode(folder) in text:
            found.append(text.decode(errors="replace"))
    return found


def is_clean(folder: Path) -> bool:
    return not os.listdir(folder) and not processes_in(folder)


def names(done: dict[str, Any]) -> Sequence[str]:
    return [act["name"] for act in done["acts"]]


def test_a_cluster_of_its_own_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    demo = start(tmp_path, "--json")
    said, told = demo.communicate(timeout=240)
    assert demo.returncode == 0, told
    done = json.loads(said)
    assert names(done) == ["kill", "join", "restart", "last look"]
    assert (done["all"]["lost"], done["all"]["stale"]) == (0, 0)
    assert done["all"]["requests"] > 500
    assert all(act["moved_entries"] > 0 for act in done["acts"][:3])
    assert "console  http://127.0.0.1:" in told
    assert is_clean(tmp_path), processes_in(tmp_path)


@pytest.mark.parametrize("word", ["start ", "kill "])
def test_ctrl_c_ends_all_of_it(tmp_path: Path, word: str) -> None:
    demo = start(tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith(word):
            break
    wait_until(lambda: processes_in(tmp_path), "something was started")
    demo.send_signal(signal.SIGINT)
    _, told = demo.communicate(timeout=90)
    assert demo.returncode == 130, told
    assert told == ""
    assert is_clean(tmp_path), processes_in(tmp_path)


def test_beside_a_cluster_that_runs_its_nodes_leave_and_its_entries_go(
    tmp_path: Path, new_cluster: NewCluster
) -> None:
    cluster = new_cluster("--partitions", FEW_PARTITIONS, aux=2)
    with Client(cluster.url) as client:
        client.put("mine", b"1")
        wait_until(lambda: client.cluster()["health"] == "ok", "all copies are made", 60)
        before = [node.pid for node in cluster.nodes.values()]
        demo = start(tmp_path, "--data-dir", str(cluster.data_dir), "--json")
        said, told = demo.communicate(timeout=240)
        assert demo.returncode == 0, told
        done = json.loads(said)
        assert names(done) == ["join", "kill", "join", "restart", "last look"]
        assert (done["all"]["lost"], done["all"]["stale"]) == (0, 0)
        assert [node["id"] for node in client.cluster()["nodes"]] == ["aux1", "aux2"]
        assert [node.pid for node in cluster.nodes.values()] == before
        assert client.request("GET", "/data?prefix=").json()["keys"] == ["mine"]
    assert is_clean(tmp_path), processes_in(tmp_path)


def test_at_a_url_nothing_is_killed(tmp_path: Path, new_cluster: NewCluster) -> None:
    cluster = new_cluster(aux=1)
    demo = start(tmp_path, "--url", cluster.url)
    said, told = demo.communicate(timeout=120)
    assert demo.returncode == 0, told
    assert "nothing is killed" in said
    assert "lost 0, stale 0" in said
    with Client(cluster.url) as client:
        assert client.request("GET", "/data?prefix=").json()["keys"] == []


def test_a_cluster_with_single_copies_is_left_alone(
    tmp_path: Path, new_cluster: NewCluster
) -> None:
    cluster = new_cluster(aux=1)
    demo = start(tmp_path, "--data-dir", str(cluster.data_dir))
    _, told = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert "nodes are killed only where every partition has two copies" in told
