"""Wall clocks that are wrong or step: a time to live lasts its length all the same.

The processes are real, their clocks are not: a `sitecustomize` on their PYTHONPATH adds what a file says.
"""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from ringmaster.client import Client
from tests.e2e.cluster import Cluster
from tests.e2e.waiting import wait_until

KEYS = [f"key-{number}" for number in range(40)]
"""So many that every node has some."""

EARLY_S, LATE_S = 0.3, 0.5
"""Before and after the end of a time to live: requests take time as well."""

pytestmark = [pytest.mark.e2e]

WRONG_CLOCK = """
import os, time
right, right_of = time.time, time.clock_gettime
def wrong_s():
    with open({file!r}) as file:
        return float(file.read() or 0)
time.time = lambda: right() + wrong_s()
if {booted_s}:
    time.clock_gettime = lambda clock: right_of(clock) + {booted_s}
"""


def wall_clock(folder: Path, *, booted_s: float = 0.0) -> tuple[Path, dict[str, str]]:
    """A file that says by how many seconds the wall clock is wrong, and the environment that makes it so.

    `booted_s`: the boot-time clock is ahead by so much, too.
    """
    file = folder / "clock"
    file.write_text("0")
    folder.joinpath("sitecustomize.py").write_text(
        WRONG_CLOCK.format(file=str(file), booted_s=booted_s)
    )
    return file, {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")}


def step(file: Path, wrong_s: float) -> None:
    """At once, for every process that reads it."""
    made = file.with_suffix(".new")
    made.write_text(str(wrong_s))
    made.replace(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the clock."""
    (tmp_path / "clocks").mkdir()
    return tmp_path / "clocks"


def write(client: Client, ttl_s: float, keys: list[str] = KEYS) -> float:
    """Write all keys; when the last was written."""
    for key in keys:
        assert client.request("PUT", f"/data/{key}?ttl={ttl_s}", b"v").status in (201, 204)
    return time.monotonic()


def found(client: Client, keys: list[str] = KEYS) -> list[str]:
    return [key for key in keys if client.request("GET", f"/data/{key}").status == 200]


def check_ttl(client: Client, began: float, written: float, ttl_s: float) -> None:
    """All are there until shortly before their time is over, and none is shortly after."""
    time.sleep(max(0.0, began + ttl_s - EARLY_S - 0.2 - time.monotonic()))
    there = found(client)
    assert time.monotonic() < began + ttl_s, "the machine is too slow for this test"
    assert there == KEYS
    time.sleep(max(0.0, written + ttl_s + LATE_S - time.monotonic()))
    assert found(client) == []


def reasons(cluster: Cluster) -> Any:
    return " ".join(cluster.status()["reasons"])


@pytest.mark.parametrize("wrong_s", [-60.0, 86400.0])
def test_a_time_to_live_lasts_its_length_when_all_wall_clocks_step(
    folder: Path, wrong_s: float
) -> None:
    file, environment = wall_clock(folder)
    with Cluster(masters=2, aux=2, environment=environment) as cluster, cluster.client() as client:
        cluster.wait_ready()
        began = time.monotonic()
        written = write(client, 3)
        time.sleep(1.0)
        step(file, wrong_s)
        age = int(client.request("GET", f"/data/{KEYS[0]}").headers["age"])
        assert 0 <= age <= 3
        check_ttl(client, began, written, 3)
        wait_until(lambda: "wall clock of aux1" in reasons(cluster), "the clocks are named")
        assert cluster.status()["health"] == "ok"  # none is more wrong than another
        began = time.monotonic()
        check_ttl(client, began, write(client, 2), 2)


@pytest.mark.parametrize("booted_s", [0.0, 86400.0])
def test_a_node_whose_clock_is_a_day_ahead_imposes_nothing(folder: Path, booted_s: float) -> None:
    file, environment = wall_clock(folder, booted_s=booted_s)
    step(file, 86400.0)
    with Cluster(masters=2, aux=2) as cluster, cluster.client() as client:
        cluster.wait_ready()
        lasting = [f"lasting-{number}" for number in range(40)]
        write(client, 600, lasting)
        joining = cluster.add_node("aux9", environment=environment)
        wait_until(lambda: primaries(cluster, "aux9") > 0, "the node is primary of some", 60)
        status = cluster.status()
        assert status["health"] == "degraded"
        clocks = [reason for reason in status["reasons"] if "wall clock" in reason]
        assert len(clocks) == 1
        assert clocks[0].startswith("the wall clock of aux9 is 86400.")
        assert "ahead of cluster time" in clocks[0]
        began = time.monotonic()
        check_ttl(client, began, write(client, 3), 3)
        joining.terminate()
        wait_until(lambda: not cluster.pids("aux9"), "the node has left", 60)
        began = time.monotonic()
        check_ttl(client, began, write(client, 3), 3)
        assert found(client, lasting) == lasting
        assert "wall clock" not in reasons(cluster)


def primaries(cluster: Cluster, node: str) -> int:
    return sum(row["primaries"] for row in cluster.status()["nodes"] if row["id"] == node)


def test_a_restart_of_everything_under_the_same_boot_reads_no_wall_clock(
    folder: Path, tmp_path: Path
) -> None:
    file, environment = wall_clock(folder)
    home = tmp_path / "home"
    home.mkdir()
    with Cluster(masters=1, aux=2, folder=home, environment=environment) as cluster:
        cluster.wait_ready()
        with cluster.client() as client:
            began = time.monotonic()
            written = write(client, 25)
            assert cluster.stop() == 0
            step(file, -3600.0)
            cluster.start()
            cluster.wait_ready()
            assert time.monotonic() < began + 23, "the machine is too slow for this test"
            check_ttl(client, began, written, 25)
