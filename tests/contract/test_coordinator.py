"""What every coordinator engine guarantees, on the real engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from ringmaster.coordinator import Commit, Coordinator
from ringmaster.coordinator.cluster_record import ensure_cluster
from ringmaster.coordinator.etcd import EtcdCoordinator, EtcdOptions
from ringmaster.coordinator.sqlite import SqliteCoordinator
from ringmaster.runtime.clock import SystemClock
from tests.contract.etcd_server import EtcdCluster
from tests.contract.watching import waits

# Lease keys and others lie in two files of the sqlite engine: most promises are checked for both.
KEYS = ("view", "lease/n1")


@dataclass
class Engine:
    """`another()` makes one more client of the same store."""

    another: Callable[[], Coordinator]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    try:
        server.start()
        yield server.members[0].url
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", "etcd"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    clients: list[Coordinator] = []
    make: Callable[[], Coordinator]
    if request.param == "etcd":
        url = request.getfixturevalue("etcd")
        options = EtcdOptions(cluster=tmp_path.name)
        make = partial(EtcdCoordinator, [url], options)
    else:
        make = partial(SqliteCoordinator, tmp_path / "shared", tmp_path / "leases")

    def another() -> Coordinator:
        clients.append(make())
        return clients[-1]

    yield Engine(another)
    for client in clients:
        await client.close()


@pytest.fixture
def coordinator(engine: Engine) -> Coordinator:
    return engine.another()


async def put(coordinator: Coordinator, key: str, value: bytes) -> int:
    versions = await coordinator.commit(Commit(put={key: value}))
    assert versions is not None
    return versions[key]


@pytest.mark.parametrize("key", KEYS)
async def test_a_commit_is_read_by_every_client_at_once(engine: Engine, key: str) -> None:
    one, two = engine.another(), engine.another()
    for number in range(20):
        value = b"%d" % number
        version = await put(one, key, value)
        record = (await two.read(key))[key]
        assert (record.value, record.version) == (value, version)


async def test_reading_by_prefix_finds_exactly_the_keys_below_it(coordinator: Coordinator) -> None:
    for key in ("lease/a", "lease/ab", "lease/b", "lease0", "node/a", "node/ä", "nod"):
        await put(coordinator, key, key.encode())
    assert set(await coordinator.read("lease/")) == {"lease/a", "lease/ab", "lease/b"}
    assert set(await coordinator.read("lease/a")) == {"lease/a", "lease/ab"}
    assert set(await coordinator.read("node/")) == {"node/a", "node/ä"}
    assert await coordinator.read("master/") == {}


async def test_several_prefixes_are_read_by_one_call(coordinator: Coordinator) -> None:
    versions = {}
    for key in ("lease/a", "master/m", "masters", "node/n", "node/o", "admin/drain/n", "view"):
        versions[key] = await put(coordinator, key, key.encode())
    for prefixes, keys in (
        (("lease/", "master/"), {"lease/a", "master/m"}),
        (("node/", "admin/", "node/n"), {"node/n", "node/o", "admin/drain/n"}),
        (("view", "lease/", "absent"), {"view", "lease/a"}),
    ):
        records = await coordinator.read_all(prefixes)
        assert {key: record.version for key, record in records.items()} == {
            key: versions[key] for key in keys
        }
        assert all(record.value == key.encode() for key, record in records.items())


async def test_any_bytes_survive(coordinator: Coordinator) -> None:
    value = bytes(range(256)) * 400
    await put(coordinator, "view", value)
    await put(coordinator, "node/empty", b"")
    assert (await coordinator.read("view"))["view"].value == value
    assert (await coordinator.read("node/empty"))["node/empty"].value == b""


@pytest.mark.parametrize("key", KEYS)
async def test_versions_grow_and_are_never_used_again_after_a_removal(
    coordinator: Coordinator, key: str
) -> None:
    seen = 0
    for _ in range(3):
        version = await put(coordinator, key, b"x")
        assert version > seen
        seen = version
        assert (
            await coordinator.commit(Commit(expect={key: version}, delete=frozenset({key}))) == {}
        )
        assert await coordinator.read(key) == {}


@pytest.mark.parametrize("key", KEYS)
async def test_a_commit_applies_only_if_every_expectation_holds(
    coordinator: Coordinator, key: str
) -> None:
    assert await coordinator.commit(Commit({key: 1234567}, {key: b"no"})) is None
    versions = await coordinator.commit(Commit({key: 0}, {key: b"first"}))
    assert versions is not None
    assert await coordinator.commit(Commit({key: 0}, {key: b"no"})) is None
    assert await coordinator.commit(Commit({key: versions[key], "node/x": 9}, {key: b"no"})) is None
    assert (
        await coordinator.commit(Commit({key: versions[key], "node/x": 0}, {key: b"second"}))
        is not None
    )
    assert (await coordinator.read(key))[key].value == b"second"


async def test_a_commit_puts_and_deletes_together(coordinator: Coordinator) -> None:
    lease, view = await put(coordinator, "lease/n1", b"l"), await put(coordinator, "view", b"v")
    commit = Commit({"lease/n1": lease, "view": view}, {"view": b"w"}, frozenset({"lease/n1"}))
    versions = await coordinator.commit(commit)
    assert versions is not None
    assert versions["view"] > view
    assert await coordinator.read("lease/") == {}
    assert await coordinator.commit(commit) is None


async def test_a_commit_that_fails_on_the_view_leaves_the_leases_alone(
    coordinator: Coordinator,
) -> None:
    lease = await put(coordinator, "lease/n1", b"l")
    commit = Commit({"lease/n1": lease, "view": 77}, {"view": b"w"}, frozenset({"lease/n1"}))
    assert await coordinator.commit(commit) is None
    assert (await coordinator.read("lease/n1"))["lease/n1"].version == lease


@pytest.mark.parametrize("key", KEYS)
async def test_of_many_conditional_commits_one_wins(engine: Engine, key: str) -> None:
    clients = [engine.another() for _ in range(4)]
    expected = 0
    for _ in range(10):
        commits = [
            client.commit(Commit({key: expected}, {key: b"%d" % n}))
            for n, client in enumerate(clients)
        ]
        results = await asyncio.gather(*commits)
        winners = [result for result in results if result is not None]
        assert len(winners) == 1
        expected = winners[0][key]


async def test_counting_up_by_conditional_commits_loses_no_step(engine: Engine) -> None:
    async def count(client: Coordinator) -> None:
        done = 0
        while done < 25:
            record = (await client.read("view")).get("view")
            value, version = (b"0", 0) if record is None else (record.value, record.version)
            if (
                await client.commit(Commit({"view": version}, {"view": b"%d" % (int(value) + 1)}))
                is not None
            ):
                done += 1

    clients = [engine.another() for _ in range(3)]
    await asyncio.gather(*(count(client) for client in clients))
    assert (await clients[0].read("view"))["view"].value == b"75"


@pytest.mark.parametrize("key", KEYS)
async def test_a_change_by_another_client_is_noticed_within_a_moment(
    engine: Engine, key: str
) -> None:
    one, two = engine.another(), engine.another()
    version = await put(one, key, b"old")
    waiting = asyncio.create_task(two.changed(key, version, 10.0))
    await waits(waiting)
    loop = asyncio.get_running_loop()
    await put(one, f"{key}x", b"another key")
    began = loop.time()
    newer = await put(one, key, b"new")
    record = await waiting
    assert record is not None
    assert (record.value, record.version) == (b"new", newer)
    assert loop.time() - began < 1.0


async def test_a_change_that_was_missed_is_told_at_once(coordinator: Coordinator) -> None:
    version = await put(coordinator, "view", b"v")
    record = await coordinator.changed("view", 0, 5.0)
    assert record is not None
    assert record.version == version


async def test_waiting_for_a_change_ends_in_time(coordinator: Coordinator) -> None:
    version = await put(coordinator, "view", b"v")
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await coordinator.changed("view", version, 0.3) is None
    assert await coordinator.changed("absent", 0, 0.1) is None
    assert 0.39 <= loop.time() - began < 3.0


async def test_a_key_that_is_removed_and_made_again_has_changed(engine: Engine) -> None:
    one, two = engine.another(), engine.another()
    version = await put(one, "view", b"v")
    waiting = asyncio.create_task(two.changed("view", version, 10.0))
    await one.commit(Commit(delete=frozenset({"view"})))
    await waits(waiting)
    newer = await put(one, "view", b"again")
    record = await waiting
    assert record is not None
    assert record.version == newer


async def test_a_call_that_is_cancelled_leaves_the_engine_usable(coordinator: Coordinator) -> None:
    version = await put(coordinator, "view", b"v")
    waiting = asyncio.create_task(coordinator.changed("view", version, 10.0))
    reading = asyncio.create_task(coordinator.read("view"))
    await asyncio.sleep(0)
    waiting.cancel()
    reading.cancel()
    await asyncio.wait([waiting, reading])
    assert (await coordinator.read("view"))["view"].value == b"v"


async def test_all_processes_agree_on_one_cluster(engine: Engine) -> None:
    clock = SystemClock()
    records = await asyncio.gather(
        *(ensure_cluster(engine.another(), 2**n, clock) for n in range(4))
    )
    assert len(set(records)) == 1
    assert len(records[0].id) == 32
    assert (await ensure_cluster(engine.another(), 4096, clock)) == records[0]
