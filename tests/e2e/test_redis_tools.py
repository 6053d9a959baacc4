"""The tools of Redis, as Debian ships them, against a node: standard commands keep their meaning."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.waiting import wait_until

TOOLS = ("redis-cli", "redis-benchmark")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One node, which serves every partition."""
    with Cluster("--replicas", "1", masters=1, aux=1) as cluster:
        cluster.wait_ready()
        wait_until(lambda: cli(cluster, "SET", "ready", "1") == "OK", "every key is served", 15)
        yield cluster


def cli(cluster: Cluster, *words: str, stdin: str | None = None) -> str:
    """What redis-cli prints, without the last newline."""
    done = subprocess.run(
        ["redis-cli", "-p", str(cluster.aux_port), *words],
        input=stdin, capture_output=True, text=True, timeout=20, check=False,
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


@pytest.mark.parametrize("depth", ["1", "16"])
def test_redis_benchmark_runs(cluster: Cluster, depth: str) -> None:
    # Bounded: it spins for ever when its server goes away.
    done = subprocess.run(
        ["redis-benchmark", "-p", str(cluster.aux_port), "-n", "5000", "-c", "16", "-P", depth,
         "-r", "1000", "-t", "ping_mbulk,set,get,mset", "--csv"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    rows = {line.split(",")[0].strip('"') for line in done.stdout.splitlines()}
    assert {"SET", "GET"} <= rows, done.stdout + done.stderr
