"""Total loss and what comes back: real processes, real SIGKILL, real files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ringmaster.chaos.target import is_at_rest
from ringmaster.snapshot.archive import Archive
from tests.e2e.cluster import RINGMASTER, Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e

INTERVAL_S = 1.0
BY_HAND = ("--snapshot-interval", "0", "--partitions", "64", "--max-memory", "128MB")
FLAGS = ("--snapshot-interval", str(INTERVAL_S), "--partitions", "64", "--max-memory", "128MB")


def write(cluster: Cluster, keys: range, generation: str = "1") -> dict[str, str]:
    """Write keys in bulk; the version of each."""
    versions = {}
    with cluster.client() as client:
        items = [{"key": f"key-{n}", "value": f"{generation}-{n}"} for n in keys]
        reply = client.request(
            "POST", "/data/bulk", json.dumps(items).encode(), {"Content-Type": "application/json"}
        )
        for result in reply.json()["results"]:
            assert result["status"] in (200, 201), result
            versions[result["key"]] = result["version"]
    return versions


def values(cluster: Cluster, keys: range) -> dict[str, Any]:
    """What is there of them, in one bulk read, with versions."""
    with cluster.client() as client:
        body = json.dumps([f"key-{n}" for n in keys]).encode()
        reply = client.request("POST", "/data/bulk/get?meta=1", body).json()
        assert reply["errors"] == {}
        return dict(reply["values"])


def detail(cluster: Cluster, key: str) -> str:
    with cluster.client() as client:
        return client.request("GET", f"/data/{key}").headers["cache-status"].rpartition("; ")[2]


def files(cluster: Cluster) -> list[Path]:
    return sorted((cluster.data_dir / "snapshots").glob("*/b*.bundle"))


def wait_saved(cluster: Cluster) -> None:
    """Until everything is on disk: a snapshot on request."""
    with cluster.client() as client:
        progress = client.request("POST", "/snapshots").json()

        def done() -> bool:
            now = client.request("GET", f"/snapshots/{progress['id']}").json()
            assert now["status"] != "failed", now
            return bool(now["status"] == "done")

        wait_until(done, "the snapshot is written")


def again(cluster: Cluster, *options: str, masters: int = 2, aux: int = 3) -> Cluster:
    """Another `ringmaster up` on the same folder; to be used with `with`."""
    options = options or cluster.options
    return Cluster(*options, masters=masters, aux=aux, folder=cluster.folder)


@pytest.mark.parametrize("aux", [2, 4])
def test_a_cluster_killed_whole_comes_back_on_fewer_and_on_more_nodes(
    new_cluster: NewCluster, aux: int
) -> None:
    cluster = new_cluster(*FLAGS)
    keys = range(500)
    versions = write(cluster, keys)
    with cluster.client() as client:
        client.put("brief", b"x", ttl_s=1.0)
        client.put("bytes", b"\x00\xff", content_type="image/png", ttl_s=600.0)
    time.sleep(INTERVAL_S + 2)  # what the promise is about: entries that are interval + 2 s old
    cluster.kill()
    with again(cluster, aux=aux) as second:
        second.wait_ready()
        found = values(second, keys)
        assert {key: item["version"] for key, item in found.items()} == versions
        assert detail(second, "key-7") == "detail=restored"
        with second.client() as client:
            reply = client.request("GET", "/data/bytes")
            assert (reply.body, reply.headers["content-type"]) == (b"\x00\xff", "image/png")
            assert client.get("brief") is None
        wait_until(lambda: not second.status()["under_replicated"], "copies are filled", 30)
        rewritten = write(second, range(3), "2")
        assert set(rewritten.values()).isdisjoint(versions.values())
        assert detail(second, "key-0") != "detail=restored"
        killed = second.nodes["aux1"]
        killed.kill()
        wait_until(lambda: len(_readable(second, keys)) == 500, "the copies take over", 20)


def _readable(cluster: Cluster, keys: range) -> dict[str, Any]:
    try:
        return values(cluster, keys)
    except AssertionError:
        return {}


def test_under_load_no_more_is_lost_than_an_interval_and_two_seconds(
    new_cluster: NewCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = new_cluster(*FLAGS)
    acknowledged: list[float] = []
    began = time.monotonic()
    with cluster.client() as client:
        while time.monotonic() - began < 6 * INTERVAL_S:
            at = len(acknowledged)
            items = [{"key": f"key-{n}", "value": n} for n in range(at, at + 50)]
            client.request("POST", "/data/bulk", json.dumps(items).encode())
            acknowledged += [time.monotonic()] * 50
    cluster.kill()
    killed = time.monotonic()
    with again(cluster) as second:
        second.wait_ready()
        found: set[str] = set()
        for first in range(0, len(acknowledged), 5000):
            found |= values(second, range(first, min(first + 5000, len(acknowledged)))).keys()
    ages = [killed - at for n, at in enumerate(acknowledged) if f"key-{n}" not in found]
    window_s = max(ages, default=0.0)
    with capsys.disabled():
        sys.stdout.write(
            f"\nloss window: {window_s:.2f} s of writes, {len(ages)} of {len(acknowledged)}, interval {INTERVAL_S} s\n"
        )
    assert window_s <= INTERVAL_S + 2


def test_a_clean_stop_loses_nothing_at_all(new_cluster: NewCluster) -> None:
    # Its keys would be among those that are counted.
    cluster = new_cluster("--snapshot-interval", "0", *FLAGS[2:], "--audit-interval", "0")
    keys = range(300)
    versions = write(cluster, keys)
    assert files(cluster) == []
    assert cluster.stop() == 0
    with again(cluster, aux=2) as second:
        second.wait_ready()
        assert {key: item["version"] for key, item in values(second, keys).items()} == versions
        versions |= write(second, range(100, 400), "2")
        with second.client() as client:
            client.delete("key-0")
        assert second.stop() == 0
    with again(cluster, aux=3) as third:
        third.wait_ready()
        found = values(third, range(400))
        del versions["key-0"]
        assert {key: item["version"] for key, item in found.items()} == versions
        # What `/cluster` says of nodes is what they said when they were last asked, five times a second.
        wait_until(
            lambda: third.status()["restore"]["entries"] == 399, "the nodes were asked since", 5
        )


def test_a_single_node_told_to_stop_seals(new_cluster: NewCluster) -> None:
    cluster = new_cluster("--snapshot-interval", "0", *FLAGS[2:], aux=1)
    write(cluster, range(50))
    pid = cluster.nodes["aux1"].terminate()
    wait_until(lambda: "sealed" in cluster.log("aux1"), "it seals", 20)
    wait_until(lambda: cluster.pids("aux1") not in ([], [pid]), "it is started again", 20)
    wait_until(lambda: len(_readable(cluster, range(50))) == 50, "it restored all", 20)
    assert detail(cluster, "key-1") == "detail=restored"


def test_all_nodes_told_to_stop_by_themselves_lose_nothing(new_cluster: NewCluster) -> None:
    cluster = new_cluster("--snapshot-interval", "0", *FLAGS[2:])
    versions = write(cluster, range(200))
    pids = {name: node.terminate() for name, node in cluster.nodes.items()}
    for name, pid in pids.items():
        wait_until(lambda n=name, p=pid: cluster.pids(n) not in ([], [p]), f"{name} is back", 40)
    wait_until(lambda: len(_readable(cluster, range(200))) == 200, "all came back", 30)
    found = values(cluster, range(200))
    assert {key: item["version"] for key, item in found.items()} == versions


def test_restore_off_starts_empty(new_cluster: NewCluster) -> None:
    cluster = new_cluster(*FLAGS)
    versions = write(cluster, range(50))
    wait_saved(cluster)
    cluster.kill()
    with again(cluster, *FLAGS, "--restore", "off") as second:
        second.wait_ready()
        assert values(second, range(50)) == {}
        assert set(write(second, range(50)).values()).isdisjoint(versions.values())


def test_two_nodes_lost_at_once_come_back_from_their_snapshots(new_cluster: NewCluster) -> None:
    cluster = new_cluster(*FLAGS)
    # A node that starts much later than the others has to be given its share first.
    wait_until(lambda: is_at_rest(cluster.status(), 3), "every node has its share", 30)
    keys = range(300)
    versions = write(cluster, keys)
    wait_saved(cluster)
    # At one moment: what the first held is copied again within a tenth of a second.
    for pid in [cluster.nodes[name].pid for name in ("aux1", "aux2")]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(_readable(cluster, keys)) == 300, "all keys are readable", 30)
    assert {key: item["version"] for key, item in values(cluster, keys).items()} == versions
    details = {detail(cluster, f"key-{n}") for n in range(60)}
    assert "detail=restored" in details
    assert details - {"detail=restored"}


def test_a_graceful_restart_of_one_node_needs_no_snapshot(new_cluster: NewCluster) -> None:
    cluster = new_cluster(*FLAGS)
    keys = range(200)
    write(cluster, keys)
    wait_saved(cluster)
    versions = write(cluster, keys, "2")
    pid = cluster.nodes["aux2"].terminate()
    wait_until(lambda: cluster.pids("aux2") not in ([], [pid]), "it is started again", 40)
    wait_until(lambda: not cluster.status()["under_replicated"], "copies are filled", 30)
    assert {key: item["version"] for key, item in values(cluster, keys).items()} == versions
    assert cluster.status()["restore"]["entries"] == 0
    assert all(detail(cluster, f"key-{n}") != "detail=restored" for n in range(20))


def reasons_name(cluster: Cluster, text: str) -> bool:
    """Masters hear of it with the node's next status."""
    status = cluster.status()
    return status["health"] == "degraded" and any(text in reason for reason in status["reasons"])


def test_a_damaged_snapshot_is_named_and_everything_else_comes_back(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster(
        *BY_HAND
    )  # one that ran by itself could be used instead of the damaged one
    keys = range(500)
    write(cluster, keys)
    wait_saved(cluster)
    cluster.kill()
    (folder,) = (cluster.data_dir / "snapshots").iterdir()
    stored = next(
        sections[0] for sections in Archive(folder.parent, folder.name).catalog().sections.values()
    )
    victim = folder / str(stored.bundle)
    raw = bytearray(victim.read_bytes())
    raw[stored.section.offset + stored.section.size // 2] ^= 1
    victim.write_bytes(bytes(raw))
    with again(cluster) as second:
        second.wait_ready()
        assert 450 < len(values(second, keys)) < 500
        wait_until(lambda: reasons_name(second, victim.name), "the damaged file is named", 10)
        with second.client() as client:
            damaged = client.request("GET", "/snapshots").json()["damaged"]
        assert [row["partition"] for row in damaged] == [stored.section.id.partition]
        assert victim.exists()


def test_a_file_that_was_deleted_by_hand_is_missed_and_the_one_before_it_used(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster(*BY_HAND)
    write(cluster, range(200))
    wait_saved(cluster)
    old = files(cluster)
    write(cluster, range(200), "2")
    wait_saved(cluster)
    cluster.kill()
    (victim, *more) = set(files(cluster)) - set(old)
    for path in (victim, *more):
        path.unlink()
    with again(cluster) as second:
        second.wait_ready()
        found = values(second, range(200))
        assert {item["value"] for item in found.values()} == {f"1-{n}" for n in range(200)}
        wait_until(lambda: reasons_name(second, victim.name), "the missing file is named", 10)


def test_a_volume_that_cannot_be_written_degrades_and_requests_go_on(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster(*FLAGS)
    write(cluster, range(50))
    wait_saved(cluster)
    folder = cluster.data_dir / "snapshots"
    moved = folder.rename(cluster.data_dir / "away")
    folder.write_text("no folder any more")
    write(cluster, range(50), "2")

    def complains() -> bool:
        status = cluster.status()
        return status["health"] == "degraded" and any(
            "cannot write snapshots" in reason for reason in status["reasons"]
        )

    wait_until(complains, "the cluster says so", 20)
    assert len(values(cluster, range(50))) == 50
    folder.unlink()
    moved.rename(folder)
    wait_until(lambda: cluster.status()["health"] == "ok", "it recovers", 20)


def test_the_command_line_shows_checks_converts_and_imports(
    new_cluster: NewCluster, tmp_path: Path
) -> None:
    cluster = new_cluster(*BY_HAND)
    wait_until(lambda: is_at_rest(cluster.status(), 3), "every node has its share", 30)
    write(cluster, range(40))
    with cluster.client() as client:
        client.put("bytes", b"\x00\xff", content_type="image/png", ttl_s=600.0)

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*RINGMASTER, "snapshot", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    assert "aux1: done" in run("create", "--url", cluster.url)
    data_dir = str(cluster.data_dir)
    assert " partitions in 3 files" in run("list", data_dir)
    assert len(run("list", data_dir, "--files").splitlines()) == 4
    assert "0 damaged" in run("verify", data_dir)
    lines = [json.loads(line) for line in run("export", data_dir).splitlines()]
    assert {line["key"] for line in lines} == {f"key-{n}" for n in range(40)} | {"bytes"}
    binary = next(line for line in lines if line["key"] == "bytes")
    assert (binary["base64"], binary["content_type"]) == ("AP8=", "image/png")
    cluster.kill()
    other = new_cluster(*FLAGS, aux=1, masters=1)
    write(other, range(5), "kept")
    assert "36 entries written, 5 were there already" in run(
        "restore", data_dir, "--url", other.url
    )
    found = values(other, range(40))
    assert len(found) == 40
    assert found["key-0"]["value"] == "kept-0"
    with other.client() as client:
        assert client.get("bytes") == b"\x00\xff"
    victim = files(cluster)[0]
    victim.write_bytes(victim.read_bytes()[:-1])
    assert victim.name in run("verify", data_dir, code=1)
    victim.unlink()
    assert "should be in it and is not" in run("verify", data_dir, code=1)
