"""A node that hangs (SIGSTOP) under many clients: what masters try again is counted, by their own metrics."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from ringmaster.client import AsyncClient, Client
from ringmaster.errors import RingmasterError
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import NewCluster

CLIENTS = 100
KEYS = [f"key-{number}" for number in range(300)]

pytestmark = [pytest.mark.e2e]


def counted(cluster: Cluster, name: str) -> float:
    """The sum of a metric, with all its labels, over the masters."""
    total = 0.0
    for number in range(cluster.sizes[0]):
        with Client(f"http://127.0.0.1:{cluster.master_port + number}") as client:
            text = client.request("GET", "/metrics").body.decode()
        pattern = rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$" if "{" not in name else None
        if pattern is None:
            pattern = rf"^{re.escape(name)} (\S+)$"
        total += sum(map(float, re.findall(pattern, text, re.MULTILINE)))
    return total


def attempts(cluster: Cluster) -> float:
    return counted(cluster, "ringmaster_node_connects_total")


async def load(cluster: Cluster, seconds: float) -> tuple[int, list[RingmasterError]]:
    """Reads by all clients for so long: how many were answered, and the errors."""
    errors: list[RingmasterError] = []
    answered = 0

    async def read(client: AsyncClient, number: int) -> None:
        nonlocal answered
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            number += 7
            try:
                assert await client.get(KEYS[number % len(KEYS)]) == b"1"
                answered += 1
            except RingmasterError as error:
                errors.append(error)

    async with AsyncClient(cluster.url, timeout_s=20, connections=CLIENTS) as client:
        await asyncio.gather(*(read(client, number) for number in range(CLIENTS)))
    return answered, errors


def fill(cluster: Cluster) -> None:
    with cluster.client() as client:
        for key in KEYS:
            client.post(key, b"1")


async def test_a_node_that_hangs_costs_no_read_and_few_attempts(new_cluster: NewCluster) -> None:
    cluster = new_cluster(masters=2, aux=3)
    fill(cluster)
    before = attempts(cluster)
    running = asyncio.create_task(load(cluster, 10.0))
    await asyncio.sleep(1)
    cluster.nodes["aux2"].pause()
    answered, errors = await running
    assert errors == []
    assert answered > 1000
    # Two masters; ten seconds at two attempts a second would be twice as many.
    assert attempts(cluster) - before <= 20
    retried = counted(cluster, 'ringmaster_retries_total{after="pause"}')
    assert retried <= 0.1 * answered + 2 * 3 * (1000 + 100 * 10)
    # Each read that waited was sent once more for each view that changed its partition, not every 50 ms.
    assert counted(cluster, 'ringmaster_retries_total{after="sign"}') <= 20 * CLIENTS
    cluster.nodes["aux2"].resume()


async def test_reads_of_a_sole_copy_that_hangs_wait_without_asking_for_it(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster("--replicas", "1", "--deadline", "20", masters=1, aux=2)
    fill(cluster)
    before = attempts(cluster)
    cluster.nodes["aux2"].pause()
    running = asyncio.create_task(load(cluster, 8.0))
    await asyncio.sleep(7)
    retried = counted(cluster, 'ringmaster_retries_total{after="pause"}')
    assert retried <= 1100 + 0.1 * counted(cluster, "ringmaster_requests_total")
    assert attempts(cluster) - before <= 20
    cluster.nodes["aux2"].resume()
    answered, errors = await running
    assert errors == []
    assert answered >= CLIENTS
