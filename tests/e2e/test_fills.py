"""Many processes that want one missing value: one makes it, whichever master they ask and whatever fails (R12)."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

import pytest

from ringmaster.client import AsyncClient, Client
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e

PROCESSES = 64
MAKING_S = 0.5
FORK = multiprocessing.get_context("fork")

Job = Callable[[str, str, Callable[[], bytes]], bytes]


def _blocking(url: str, key: str, make: Callable[[], bytes]) -> bytes:
    with Client(url, timeout_s=20) as client:
        return client.get_or_set(key, make, ttl_s=60)


def _asyncio(url: str, key: str, make: Callable[[], bytes]) -> bytes:
    async def job() -> bytes:
        async def make_later() -> bytes:
            await asyncio.sleep(0)
            return make()

        async with AsyncClient(url, timeout_s=20) as client:
            return await client.get_or_set(key, make_later, ttl_s=60)

    return asyncio.run(job())


def _process(job: Job, url: str, key: str, start: Barrier, made: object, right: object) -> None:
    def make() -> bytes:
        with made.get_lock():  # type: ignore[attr-defined]
            made.value += 1  # type: ignore[attr-defined]
        time.sleep(MAKING_S)
        return b"made"

    start.wait(60)
    if job(url, key, make) == b"made":
        with right.get_lock():  # type: ignore[attr-defined]
            right.value += 1  # type: ignore[attr-defined]


def stampede(job: Job, urls: list[str], key: str) -> tuple[int, int]:
    """(how often the value was made, how many processes got it)."""
    start = FORK.Barrier(PROCESSES)
    made, right = FORK.Value("i", 0), FORK.Value("i", 0)
    processes = [
        FORK.Process(target=_process, args=(job, urls[number % len(urls)], key, start, made, right))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    for process in processes:
        if process.is_alive():
            process.kill()
    return made.value, right.value


@pytest.mark.parametrize("job", [_blocking, _asyncio])
def test_of_64_processes_one_makes_the_value(shared_cluster: Cluster, job: Job) -> None:
    # One may have been restarted a moment ago.
    wait_until(lambda: len(shared_cluster.status()["masters"]) == 2, "both masters are there", 20)
    masters = [f"http://{row['address']}" for row in shared_cluster.status()["masters"]]
    for place, urls in (("front", [shared_cluster.url]), ("masters", masters)):
        assert stampede(job, urls, f"{job.__name__}-{place}") == (1, PROCESSES)


def test_who_cannot_make_it_leaves_it_to_the_next(shared_cluster: Cluster) -> None:
    async def job() -> list[object]:
        making = asyncio.Event()

        async def fails() -> bytes:
            making.set()
            await asyncio.sleep(0.3)
            raise OSError("the database is gone")

        async with AsyncClient(shared_cluster.url, timeout_s=20) as client:
            first = asyncio.create_task(client.get_or_set("failing", fails))
            await making.wait()
            others = [client.get_or_set("failing", lambda: b"second") for _ in range(8)]
            return await asyncio.gather(first, *others, return_exceptions=True)

    first, *others = asyncio.run(job())
    assert isinstance(first, OSError)
    assert others == [b"second"] * 8


@pytest.mark.parametrize(("callers", "connections"), [(300, 64), (50, 2), (20, 1)])
def test_more_callers_of_one_client_than_it_has_connections(
    shared_cluster: Cluster, callers: int, connections: int
) -> None:
    made: list[int] = []

    async def make() -> bytes:
        made.append(1)
        await asyncio.sleep(0.2)
        return b"made"

    async def job() -> list[bytes]:
        key = f"crowd-{callers}"
        async with AsyncClient(shared_cluster.url, connections=connections) as client:
            return await asyncio.gather(*(client.get_or_set(key, make, 60) for _ in range(callers)))

    assert asyncio.run(job()) == [b"made"] * callers
    assert len(made) == 1


def test_a_short_deadline_of_calls_has_nobody_make_it_again(shared_cluster: Cluster) -> None:
    made: list[int] = []

    async def make() -> bytes:
        made.append(1)
        await asyncio.sleep(4)
        return b"made"

    async def one() -> bytes:
        async with AsyncClient(shared_cluster.url, timeout_s=1.6) as client:
            return await client.get_or_set("patient", make, 60)

    async def job() -> list[bytes]:
        return await asyncio.gather(*(one() for _ in range(10)))

    assert asyncio.run(job()) == [b"made"] * 10
    assert len(made) == 1


def test_one_refreshes_a_stale_value_while_the_others_are_given_it(shared_cluster: Cluster) -> None:
    made: list[int] = []

    async def job() -> list[bytes]:
        others_have_theirs = asyncio.Event()

        async def make() -> bytes:
            made.append(1)
            await others_have_theirs.wait()
            return b"new"

        async with AsyncClient(shared_cluster.url) as client:
            await client.put("rates", b"old", ttl_s=0.2, swr_s=60)
            await asyncio.sleep(0.4)
            calls = [
                asyncio.create_task(client.get_or_set("rates", make, 60, 60)) for _ in range(20)
            ]
            while sum(call.done() for call in calls) < 19:
                await asyncio.wait(
                    [call for call in calls if not call.done()], return_when=asyncio.FIRST_COMPLETED
                )
            others_have_theirs.set()
            return await asyncio.gather(*calls)

    values = asyncio.run(job())
    assert sorted(values) == [b"new"] + [b"old"] * 19
    assert len(made) == 1


def test_a_failover_in_the_middle_leaves_nobody_waiting_and_no_token_of_before(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster("--partitions", "16", "--snapshot-interval", "0")
    with cluster.client() as client:
        node = client.locate("k")["primary"]
        first = client.request("GET", "/data/k", headers={"Prefer": "wait=5"})
        old = first.headers["fill-token"]
        replies: list[tuple[float, int, str]] = []

        async def job() -> None:
            async with AsyncClient(cluster.url, timeout_s=20) as waiting:

                async def ask() -> None:
                    began = time.monotonic()
                    reply = await waiting.request("GET", "/data/k", headers={"Prefer": "wait=8"})
                    took_s = time.monotonic() - began
                    replies.append((took_s, reply.status, reply.headers.get("fill-token", "")))
                    if replies[-1][2]:
                        fill = {"Fill-Token": replies[-1][2]}
                        done = await waiting.request("PUT", "/data/k", b"new", fill)
                        assert done.status == 201

                tasks = [asyncio.create_task(ask()) for _ in range(20)]
                await asyncio.sleep(0.3)
                assert replies == []
                cluster.nodes[node].kill()
                await asyncio.gather(*tasks)

        asyncio.run(job())
        assert all(took_s < 8.5 for took_s, _, _ in replies)
        assert [status for _, status, _ in replies].count(404) == 1
        assert len({token for _, _, token in replies if token} | {old}) == 2
        lost = client.request("PUT", "/data/k", b"old", {"Fill-Token": old})
        assert lost.status == 412
        assert client.get("k") == b"new"
        wait_until(lambda: cluster.status()["health"] == "ok", "it has recovered", 30)
