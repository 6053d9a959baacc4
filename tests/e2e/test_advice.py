"""Advice on size and policy by real masters and nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ringmaster.client import Client
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e


def advise(url: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "ringmaster.cli", "advise", "--url", url, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def test_every_master_and_the_command_line_say_what_other_sizes_would_hit(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster("--partitions", "16", "--snapshot-interval", "0")
    with Client(cluster.url) as client:
        keys = [f"k{number}" for number in range(500)]
        for first in range(0, 500, 100):
            items = [{"key": key, "value": 1} for key in keys[first : first + 100]]
            client.request("POST", "/data/bulk", body=json.dumps(items).encode())
        asked = json.dumps([*keys, *(f"none{number}" for number in range(500))]).encode()

        def advice() -> Any:
            client.request("POST", "/data/bulk/get", body=asked)
            return json.loads(advise(cluster.url, "--json"))

        wait_until(lambda: advice()["enough"], "enough reads were sampled", 30)
    for row in cluster.status()["masters"]:
        with Client(f"http://{row['address']}") as master:
            found = master.advice()
        assert found["unreachable"] == []
        assert {each["memory"] for each in found["sizes"]} == {0.5, 1.0, 2.0, 4.0}
        assert {each["policy"] for each in found["policies"]} >= {"adaptive", "lru", "sieve"}
        # All that is there fits.
        for each in (*found["sizes"], *found["scaling"], *found["policies"]):
            assert each["hit_ratio"] == pytest.approx(found["hit_ratio"], abs=0.05)
    assert "with other memory" in advise(cluster.url)


def test_the_keys_that_are_read_most_are_listed_answers_from_copies_included(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster("--partitions", "16", "--snapshot-interval", "0")
    with Client(cluster.url) as client:
        for key in ("hot", "cold"):
            client.put(key, b"v")
        client.get("cold")
        for _ in range(300):
            client.get("hot")

        def listed() -> bool:
            row = next(iter(client.hot_keys()["hot_keys"]), None)
            return row is not None and row["key"] == "hot" and row["copies"] == 2

        wait_until(listed, "the hot key is listed, with its copies", 10)
        # Most reads were answered by masters, which say so every 0.9 s.
        wait_until(
            lambda: client.hot_keys(1)["hot_keys"][0]["reads_per_s"] >= 5, "all are counted", 10
        )
    command = [sys.executable, "-m", "ringmaster.cli", "hotkeys", "--url", cluster.url]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    assert text.splitlines()[1].split()[-1] == "hot"
