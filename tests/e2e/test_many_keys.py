"""A hundred thousand values of 10 B to 100 KB, written through nginx into a cluster as `make up` starts it, come back."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, quote_plus

import pytest

from ringmaster.cli.nginx import find_nginx
from tests.conformance.raw_http import Connection
from tests.e2e.cluster import Cluster

COUNT = 100_000
CONNECTIONS = 8
SMALLEST, LARGEST = 10, 100_000
REPLICAS = 2
# All values have 1.1 GB, each is held twice, by three nodes.
OPTIONS = (
    "--max-memory",
    "1500MB",
    "--snapshot-interval",
    "0",
    "--replicas",
    str(REPLICAS),
    "--audit-interval",
    "0",
)


def content_of(number: int) -> tuple[bytes, bytes | None]:
    """(value, and the body that POSTs it or None for one that is PUT); sizes are log-uniform, the ends included."""
    source = random.Random(number)
    share = {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0}.get(number, source.random())
    size = round(SMALLEST * (LARGEST / SMALLEST) ** share)
    if number % 2:
        return source.randbytes(size), None
    value = b'"%b"' % source.randbytes(size // 2 - 1).hex().encode()
    return value, b'{"key":"%b","value":%b}' % (key_of(number).encode(), value)


def key_of(number: int) -> str:
    return f"many/{number}/é + 100%"


def write(connection: Connection, number: int) -> None:
    value, body = content_of(number)
    if body is None:
        target = "/data/" + quote(key_of(number), safe="/")
        reply = connection.request("PUT", target, (), value)
    else:
        reply = connection.request("POST", "/data", (), body)
    assert reply.status == 201, (number, reply)


def read(connection: Connection, number: int) -> None:
    value, body = content_of(number)
    reply = connection.request("GET", "/data?key=" + quote_plus(key_of(number)))
    expected = value if body is None else body
    assert reply.status == 200, (number, reply)
    assert reply.body == expected, number


def all_of_them(address: tuple[str, int], one: Callable[[Connection, int], None]) -> int:
    """Do `one` for every number, over several connections; how many were done."""

    def part(start: int) -> int:
        connection = Connection(address)
        try:
            for number in range(start, COUNT, CONNECTIONS):
                one(connection, number)
        finally:
            connection.close()
        return len(range(start, COUNT, CONNECTIONS))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(part, range(CONNECTIONS)))


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
def test_a_hundred_thousand_values_come_back_byte_for_byte() -> None:
    with Cluster(*OPTIONS, nginx="on") as cluster:
        cluster.wait_ready()
        front_door = ("127.0.0.1", cluster.port)
        assert all_of_them(front_door, write) == COUNT
        nodes = cluster.status()["nodes"]
        assert sum(node["evictions"] for node in nodes) == 0
        assert all_of_them(front_door, read) == COUNT
        nodes = cluster.status()["nodes"]
        assert sum(node["entries"] for node in nodes) == REPLICAS * COUNT
        assert sum(node["evictions"] for node in nodes) == 0
