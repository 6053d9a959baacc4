"""What it costs when a snapshot cannot be written: never a request, never silence."""

import errno
import random

import pytest

from aux.node.status_report import status_of
from ringmaster.snapshot.names import ManifestName
from tests.fakes.snapshot_node import started
from tests.fakes.snapshot_store import MemoryStore


async def test_a_large_round_is_several_files_and_a_failure_loses_only_the_last(
    store: MemoryStore,
) -> None:
    world = await started(store, partitions=8, max_bytes=200_000_000)
    world.service.writer.pipeline._disk._bundle_bytes = 3_000_000
    for n in range(8):
        world.put(n, b"a", random.Random(n).randbytes(1_024_000))
    fail_at_the_second(store)
    assert not await world.cycle()
    assert len(store.bundles) == 1
    kept = set(store.catalog().sections)
    assert kept == {0, 1, 2}
    store.fails = lambda _: None
    assert await world.service.writer.write_due()
    assert len(store.bundles) == 3
    assert store.catalog().sections.keys() == set(range(8))
    assert all(len(store.of(n)) == 1 for n in range(8))


def fail_at_the_second(store: MemoryStore) -> None:
    begun = 0

    def fail(operation: str) -> None:
        nonlocal begun
        begun += operation == "begin"
        if begun == 2 and operation == "begin":
            raise OSError(errno.ENOSPC, "No space left on device")

    store.fails = fail


@pytest.mark.parametrize("operation", ["begin", "append", "publish"])
async def test_a_failing_disk_is_reported_and_costs_nothing_but_the_snapshot(
    store: MemoryStore, operation: str
) -> None:
    world = await started(store)
    await world.put_and_cycle(0, b"a")
    broken = OSError(errno.ENOSPC, "No space left on device")

    def fail(doing: str) -> None:
        if doing == operation:
            raise broken

    store.fails = fail
    world.put(0, b"b")
    assert not await world.cycle()
    writer = world.service.writer
    assert writer.pipeline.failures == 1
    assert "No space left" in status_of(world.node).snapshot_problems[0]
    assert store.drafts == {}
    assert store.newest_keys(0) == [b"a"]
    store.fails = lambda _: None
    assert await writer.write_due()
    assert store.newest_keys(0) == [b"a", b"b"]
    assert status_of(world.node).snapshot_problems == []
    assert not world.voided


async def test_success_is_claimed_only_when_nothing_is_overdue(store: MemoryStore) -> None:
    world = await started(store)
    await world.cycle()
    writer = world.service.writer
    success = writer.last_success_s
    assert success == world.clock.wall()

    def fail(_: str) -> None:
        raise OSError(errno.EIO, "I/O error")

    store.fails = fail
    await world.put_and_cycle(0, b"a")
    assert writer.last_success_s == success


async def test_snapshots_that_hang_are_a_problem_after_three_intervals(store: MemoryStore) -> None:
    world = await started(store)
    await world.cycle()
    world.clock.now += 29
    assert world.service.problems() == []
    world.clock.now += 2
    assert "behind" in world.service.problems()[0]


async def test_an_unforeseen_error_does_not_end_the_node(store: MemoryStore) -> None:
    world = await started(store)

    def fail(_: str) -> None:
        raise RuntimeError("a bug")

    store.fails = fail
    world.put(0, b"a")
    assert not await world.cycle()
    assert world.service.writer.pipeline.last_error == "a bug"


async def test_a_request_that_fails_says_so(store: MemoryStore) -> None:
    world = await started(store)

    def fail(_: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    store.fails = fail
    world.put(0, b"a")
    request = world.service.writer.request("one")
    await world.service.writer.write_due()
    assert (request.state, request.error) == ("failed", "[Errno 30] Read-only file system")


async def test_a_seal_that_cannot_be_written_ends_in_time(store: MemoryStore) -> None:
    world = await started(store)
    world.put(0, b"a")

    def fail(_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.fails = fail
    world.node.roles.seal()
    assert not await world.service.writer.seal(0.05)


async def test_a_manifest_that_could_not_be_written_is_written_later(store: MemoryStore) -> None:
    world = await started(store)
    world.put(0, b"a")
    published = 0

    def fail(operation: str) -> None:
        nonlocal published
        published += operation == "publish"
        if operation == "publish" and published == 2:
            raise OSError(errno.EIO, "I/O error")

    store.fails = fail
    assert not await world.cycle()
    assert world.service.problems()
    assert store.newest_keys(0) == [b"a"]
    assert await world.service.writer.write_due()
    assert ManifestName("inc1") in store.content
    assert len(store.bundles) == 1
