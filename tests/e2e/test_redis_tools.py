"""The tools of Redis, as Debian ships them, against a node: standard commands keep their meaning."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ringmaster.protocol.hashing import partition_of, token_of
from ringmaster.protocol.resp import encode
from tests.e2e.cluster import RINGMASTER, Cluster
from tests.e2e.waiting import wait_until

TOOLS = ("redis-cli", "redis-benchmark")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One node, which serves every partition. Its snapshots are those that a test asks for."""
    with Cluster("--replicas", "1", "--snapshot-interval", "3600", masters=1, aux=1) as cluster:
        cluster.wait_ready()
        wait_until(lambda: cli(cluster, "SET", "ready", "1") == "OK", "every key is served", 15)
        yield cluster


@cache
def password(folder: Path, user: str = "default") -> str:
    """Of `user` in the cluster of `folder`, asked for once."""
    write = [] if user == "reader" else ["--write"]
    words = [*RINGMASTER, "redis-password", "--data-dir", str(folder), *write]
    return subprocess.run(
        words, capture_output=True, text=True, timeout=20, check=True
    ).stdout.strip()


def cli(cluster: Cluster, *words: str, stdin: str | None = None, user: str = "default") -> str:
    """What redis-cli prints, without the last newline."""
    done = subprocess.run(
        ["redis-cli", "-p", str(cluster.aux_port), "--user", user, *words],
        input=stdin, capture_output=True, text=True, timeout=20, check=False,
        env={**os.environ, "REDISCLI_AUTH": password(cluster.data_dir, user)},
    )  # fmt: skip
    return done.stdout.rstrip("\n")


def test_redis_cli_reads_writes_and_expires(cluster: Cluster) -> None:
    assert cli(cluster, "PING") == "PONG"
    assert cli(cluster, "SET", "k", "a value") == "OK"
    assert cli(cluster, "GET", "k") == "a value"
    assert cli(cluster, "SET", "k", "other", "NX") == ""
    assert cli(cluster, "EXPIRE", "k", "100") == "1"
    assert cli(cluster, "TTL", "k") == "100"
    assert cli(cluster, "MGET", "k", "none") == "a value"
    assert cli(cluster, "DEL", "k", "none") == "1"
    assert cli(cluster, "EXISTS", "k") == "0"
    assert "ERR" in cli(cluster, "FLUSHALL")
    assert "maxmemory" in cli(cluster, "INFO")


def test_redis_cli_reads_commands_from_a_pipe_and_gets_its_replies_in_order(
    cluster: Cluster,
) -> None:
    lines = [f"SET key:{number} {number}" for number in range(500)]
    lines += [f"GET key:{number}" for number in range(500)]
    printed = cli(cluster, stdin="\n".join(lines) + "\n").splitlines()
    assert printed == ["OK"] * 500 + [str(number) for number in range(500)]


def test_redis_cli_s_mass_insertion_is_taken(cluster: Cluster) -> None:
    commands = "".join(
        f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n$1\r\nv\r\n"
        for key in (f"mass:{number}" for number in range(2000))
    )
    printed = cli(cluster, "--pipe", stdin=commands)
    assert "errors: 0, replies: 2000" in printed
    assert cli(cluster, "GET", "mass:1999") == "v"


@pytest.mark.parametrize("key", ["b\\xff", "b\\xed\\xa0\\x80", "b\\n", "b\\xc2\\x85"])
def test_keys_that_http_refuses_are_refused_here(cluster: Cluster, key: str) -> None:
    assert cli(cluster, stdin=f'SET "{key}" v\n').startswith("ERR a key is 1 to 512 bytes")
    with cluster.client() as client:
        page = client.request("GET", "/data?prefix=b").json()
    assert set(page) == {"keys", "cursor"}


def test_a_listing_an_export_and_a_restore_survive_an_illegal_key_that_is_there(
    cluster: Cluster,
) -> None:
    for number in range(30):
        assert cli(cluster, "SET", f"kept:{number}", "v") == "OK"
    plant(cluster, b"kept:\xff")
    try:
        with cluster.client() as client:
            page = client.request("GET", "/data?prefix=kept:").json()
        assert len(page["keys"]) == 30
        assert page["skipped"] == {"count": 1, "keys": ["kept:\\xff"]}
        assert snapshot("create", "--url", cluster.url)[2] == 0
        named = '1: "kept:\\xff"'
        printed, said, code = snapshot("export", str(cluster.data_dir))
        keys = {json.loads(line)["key"] for line in printed.splitlines()}
        assert (code, {key for key in keys if key.startswith("kept:")}) == (0, {*page["keys"]})
        assert named in said
        cli(cluster, "DEL", *page["keys"])
        printed, said, code = snapshot("restore", str(cluster.data_dir), "--url", cluster.url)
        assert (code, "0 failed" in printed, named in said) == (0, True, True), said
        assert cli(cluster, "EXISTS", *page["keys"]) == "30"
    finally:
        assert cli(cluster, stdin='DEL "kept:\\xff"\n') == "1"


def plant(cluster: Cluster, key: bytes) -> None:
    """Write an illegal key, as only a master that let it in could."""
    with cluster.client() as client:
        partitions = client.request("GET", "/cluster").json()["partitions"]
        number = partition_of(key, partitions)
        near = next(
            k for k in map(str, range(100_000)) if partition_of(k.encode(), partitions) == number
        )
        term = client.request("GET", f"/cluster/locate/{near}").json()["term"]
    frame = encode(b"RM.SET", token_of(number, term), key, b"1")
    with socket.create_connection(("127.0.0.1", cluster.aux_port), 5) as connection:
        connection.sendall(frame)
        assert connection.recv(1000).startswith(b"-NOAUTH")
        connection.sendall(encode(b"AUTH", password(cluster.data_dir).encode()))
        assert connection.recv(1000) == b"+OK\r\n"
        connection.sendall(frame)
        assert connection.recv(1000).startswith(b"*4")


def snapshot(*arguments: str) -> tuple[str, str, int]:
    """What `ringmaster snapshot` prints, what it says on stderr, and its exit code."""
    done = subprocess.run(
        [*RINGMASTER, "snapshot", *arguments], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize("depth", ["1", "16"])
def test_redis_benchmark_runs(cluster: Cluster, depth: str) -> None:
    # Bounded: it spins for ever when its server goes away.
    done = subprocess.run(
        ["redis-benchmark", "-p", str(cluster.aux_port), "-a", password(cluster.data_dir), "-n", "5000", "-c", "16", "-P", depth,
         "-r", "1000", "-t", "ping_mbulk,set,get,mset", "--csv"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    rows = {line.split(",")[0].strip('"') for line in done.stdout.splitlines()}
    assert {"SET", "GET"} <= rows, done.stdout + done.stderr


def test_a_reader_may_only_read_and_a_stranger_may_do_nothing(cluster: Cluster) -> None:
    assert cli(cluster, "SET", "read", "me") == "OK"
    assert cli(cluster, "GET", "read", user="reader") == "me"
    assert "NOPERM" in cli(cluster, "SET", "read", "x", user="reader")
    assert "NOPERM" in cli(cluster, "RM.STATUS", user="reader")
    run = subprocess.run
    for where in (["-p", str(cluster.aux_port)], ["-s", str(cluster.data_dir / "run/aux1.sock")]):
        done = run(["redis-cli", *where, "GET", "read"], capture_output=True, text=True, timeout=20)
        assert "NOAUTH" in done.stdout
    benchmark = ["redis-benchmark", "-p", str(cluster.aux_port), "--user", "reader", "-a"]
    words = [*benchmark, password(cluster.data_dir, "reader"), "-n", "2000", "-t", "get", "--csv"]
    done = run(words, capture_output=True, text=True, timeout=60, check=False)
    assert '"GET"' in done.stdout, done.stdout + done.stderr


def test_the_password_of_no_cluster_is_a_mistake(tmp_path: Path) -> None:
    words = [*RINGMASTER, "redis-password", "--data-dir", str(tmp_path / "none")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ringmaster redis-password: ")
    assert not (tmp_path / "none").exists()
