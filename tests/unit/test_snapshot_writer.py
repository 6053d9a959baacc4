"""Which partitions are written when, what goes to disk, and what failures cost: never a request, never silence."""

import asyncio
import errno
from contextlib import suppress

import pytest

from aux.report import status_of
from ringmaster.snapshot.format import split_payload
from ringmaster.snapshot.names import SnapshotName
from ringmaster.snapshot.reader import Block, SnapshotReader
from tests.fakes.snapshot_node import CLUSTER, SnapshotNode
from tests.fakes.snapshot_store import MemoryStore


def keys_in(store: MemoryStore, name: SnapshotName) -> list[bytes]:
    keys: list[bytes] = []
    reader = SnapshotReader(store.open(name))
    for block in reader.blocks():
        assert isinstance(block, Block)
        keys += split_payload(block.raw, block.entries)[0]
    assert reader.complete
    return keys


def newest_keys(store: MemoryStore, partition: int) -> list[bytes]:
    return keys_in(store, store.of(partition)[0])


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def started(store: MemoryStore, **options: object) -> SnapshotNode:
    world = SnapshotNode(store, **options)
    world.appoint(1)
    await world.restored()
    return world


async def test_every_partition_is_written_once_per_interval_if_it_changed(
    store: MemoryStore,
) -> None:
    world = await started(store)
    world.put(0, b"a")
    assert await world.cycle()
    assert {name.partition for name in store.content} == {0, 1, 2, 3}
    assert await world.cycle()
    assert len(store.content) == 4
    world.put(0, b"b")
    assert await world.cycle()
    assert [name.version for name in store.of(0)] == [(1, 2), (1, 1)]
    assert len(store.content) == 5


async def test_each_partition_has_its_own_turn_within_the_interval(store: MemoryStore) -> None:
    world = await started(store, partitions=64)
    writer = world.keeper.writer
    at_once = []
    for _ in range(20):
        world.clock.now += writer.options.interval_s / 20
        before = len(store.content)
        writer.find_due()
        assert await writer.write_due()
        at_once.append(len(store.content) - before)
    assert sum(at_once) == 64
    assert max(at_once) <= 6


async def test_an_entry_is_on_disk_an_interval_after_it_was_written_whenever_that_was(
    store: MemoryStore,
) -> None:
    world = await started(store, partitions=16)
    writer = world.keeper.writer
    for step in range(60):
        world.put(step % 16, b"key-%d" % step)
        for _ in range(20):
            world.clock.now += writer.options.interval_s / 20
            writer.find_due()
            assert await writer.write_due()
        assert b"key-%d" % step in newest_keys(store, step % 16)
        world.clock.now += 0.37


async def test_what_was_taken_over_from_another_node_is_written_at_once(store: MemoryStore) -> None:
    world = await started(store)
    world.put(2, b"a")
    await world.cycle()
    world.appoint(5)
    writer = world.keeper.writer
    world.clock.now += 0.001
    writer.find_due()
    assert await writer.write_due()
    assert store.of(2)[0].version[0] == 5
    assert store.of(1)[0].version[0] == 1


async def test_entries_are_written_in_recency_order(store: MemoryStore) -> None:
    world = await started(store)
    for key in (b"a", b"b", b"c"):
        world.put(0, key)
    world.node.store.touch(world.node.primaries[0].data, b"a")
    await world.cycle()
    assert newest_keys(store, 0) == [b"b", b"c", b"a"]


async def test_the_header_names_cluster_partition_and_version(store: MemoryStore) -> None:
    world = await started(store)
    world.put(3, b"a")
    await world.cycle()
    header = SnapshotReader(store.open(store.of(3)[0])).header
    assert (header.cluster, header.partitions, header.partition) == (CLUSTER, 4, 3)
    assert (header.term, header.seq, header.entries, header.sealed) == (1, 1, 1, False)


async def test_a_partition_larger_than_a_batch_arrives_whole(store: MemoryStore) -> None:
    world = await started(store, max_bytes=100_000_000)
    for n in range(12):
        world.put(1, b"key-%d" % n, bytes(1_000_000))
    await world.cycle()
    assert newest_keys(store, 1) == [b"key-%d" % n for n in range(12)]


async def test_the_newest_rounds_are_kept_and_only_older_ones_removed(store: MemoryStore) -> None:
    world = await started(store, keep=2)
    for n in range(5):
        world.put(0, b"%d" % n)
        await world.cycle()
    assert [name.version for name in store.of(0)] == [(1, 5), (1, 4)]
    assert len(store.of(1)) == 1


async def test_files_that_others_wrote_before_are_removed_too(store: MemoryStore) -> None:
    first = await started(store, keep=2)
    for n in range(3):
        first.put(0, b"%d" % n)
        await first.cycle()
    second = SnapshotNode(store, incarnation="inc2", keep=2)
    second.appoint(9, before=1)
    await second.restored()
    second.put(0, b"new")
    await second.cycle()
    assert [name.version for name in store.of(0)] == [(9, 1), (1, 3)]


async def test_a_newer_file_than_ours_is_never_removed(store: MemoryStore) -> None:
    world = await started(store, keep=1)
    newer = SnapshotName(0, 8, 1, "successor")
    store.content[newer] = b"x"
    for n in range(3):
        world.put(0, b"%d" % n)
        await world.cycle()
    assert newer in store.content


@pytest.mark.parametrize("operation", ["begin", "append", "publish"])
async def test_a_failing_disk_is_reported_and_costs_nothing_but_the_snapshot(
    store: MemoryStore, operation: str
) -> None:
    world = await started(store)
    world.put(0, b"a")
    await world.cycle()
    broken = OSError(errno.ENOSPC, "No space left on device")

    def fail(doing: str) -> None:
        if doing == operation:
            raise broken

    store.fails = fail
    world.put(0, b"b")
    assert not await world.cycle()
    writer = world.keeper.writer
    assert writer.failures == 1
    assert "No space left" in status_of(world.node).snapshot_problems[0]
    assert store.drafts == {}
    assert newest_keys(store, 0) == [b"a"]
    store.fails = lambda _: None
    assert await writer.write_due()
    assert newest_keys(store, 0) == [b"a", b"b"]
    assert status_of(world.node).snapshot_problems == []
    assert not world.voided


async def test_success_is_claimed_only_when_nothing_is_overdue(store: MemoryStore) -> None:
    world = await started(store)
    await world.cycle()
    writer = world.keeper.writer
    success = writer.last_success_s
    assert success == world.clock.wall()

    def fail(_: str) -> None:
        raise OSError(errno.EIO, "I/O error")

    store.fails = fail
    world.put(0, b"a")
    await world.cycle()
    assert writer.last_success_s == success


async def test_snapshots_that_hang_are_a_problem_after_three_intervals(store: MemoryStore) -> None:
    world = await started(store)
    await world.cycle()
    world.clock.now += 29
    assert world.keeper.problems() == []
    world.clock.now += 2
    assert "behind" in world.keeper.problems()[0]


async def test_an_unforeseen_error_does_not_end_the_node(store: MemoryStore) -> None:
    world = await started(store)

    def fail(_: str) -> None:
        raise RuntimeError("a bug")

    store.fails = fail
    world.put(0, b"a")
    assert not await world.cycle()
    assert world.keeper.writer.last_error == "a bug"


async def test_a_request_writes_everything_now_and_says_how_it_stands(store: MemoryStore) -> None:
    world = await started(store, interval_s=0)
    writer = world.keeper.writer
    world.put(0, b"a")
    request = writer.request("one")
    assert writer.request("one") is request
    assert (request.state, request.partitions) == ("running", 4)
    await writer.write_due()
    assert request.state == "done"
    assert newest_keys(store, 0) == [b"a"]


async def test_a_request_that_fails_says_so(store: MemoryStore) -> None:
    world = await started(store)

    def fail(_: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    store.fails = fail
    request = world.keeper.writer.request("one")
    await world.keeper.writer.write_due()
    assert (request.state, request.error) == ("failed", "[Errno 30] Read-only file system")


async def test_without_an_interval_nothing_is_written_by_itself(store: MemoryStore) -> None:
    world = await started(store, interval_s=0)
    world.put(0, b"a")
    world.clock.now += 1000
    world.keeper.writer.find_due()
    await world.keeper.writer.write_due()
    assert store.content == {}


async def test_the_seal_holds_everything_and_the_last_order(store: MemoryStore) -> None:
    world = await started(store)
    for key in (b"a", b"b"):
        world.put(0, key)
    await world.cycle()
    written = len(store.content)
    world.node.store.touch(world.node.primaries[0].data, b"a")
    world.put(1, b"late")
    world.node.seal()
    assert not world.node.served
    assert await world.keeper.writer.seal(5)
    assert newest_keys(store, 0) == [b"b", b"a"]
    assert newest_keys(store, 1) == [b"late"]
    assert SnapshotReader(store.open(store.of(1)[0])).header.sealed
    assert len(store.content) == written + 1


async def test_a_seal_that_cannot_be_written_ends_in_time(store: MemoryStore) -> None:
    world = await started(store)
    world.put(0, b"a")

    def fail(_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.fails = fail
    world.node.seal()
    assert not await world.keeper.writer.seal(0.05)


async def test_a_partition_that_is_being_restored_is_not_written(store: MemoryStore) -> None:
    first = await started(store)
    first.put(0, b"a")
    await first.cycle()
    before = dict(store.content)
    second = SnapshotNode(store, incarnation="inc2")
    second.appoint(9, before=1)
    await second.cycle()
    second.node.seal()
    await second.keeper.writer.seal(1)
    assert store.content == before


async def test_a_clock_that_jumps_changes_nothing_about_which_file_is_newest(
    store: MemoryStore,
) -> None:
    world = await started(store)
    world.put(0, b"a")
    await world.cycle()
    walls = iter([5.0] * 100)
    world.clock.wall = lambda: next(walls)  # type: ignore[method-assign]
    world.put(0, b"b")
    await world.cycle()
    assert newest_keys(store, 0) == [b"a", b"b"]


async def test_the_loop_is_never_held_for_long_while_a_partition_is_written(
    store: MemoryStore,
) -> None:
    world = await started(store, max_bytes=100_000_000)
    for n in range(20_000):
        world.put(0, b"key-%06d" % n, b"x" * 100)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await world.cycle()
    counting.cancel()
    with suppress(asyncio.CancelledError):
        await counting
    assert turns >= 20_000 * 150 / (128 * 1024)


async def test_only_so_many_files_are_open_at_a_time(store: MemoryStore) -> None:
    world = await started(store, partitions=512)
    most = 0

    def count(_: str) -> None:
        nonlocal most
        most = max(most, len(store.drafts))

    store.fails = count
    await world.cycle()
    assert len(store.content) == 512
    assert most <= 64


async def test_a_request_is_not_met_by_a_cut_that_was_made_before_it(store: MemoryStore) -> None:
    world = await started(store)
    writer = world.keeper.writer
    world.put(0, b"a")
    requests = []

    def meanwhile(operation: str) -> None:
        if operation == "publish" and not requests:
            world.put(0, b"b")
            requests.append(writer.request("one"))

    store.fails = meanwhile
    await world.cycle()
    assert requests[0].state == "running"
    await writer.write_due()
    assert requests[0].state == "done"
    assert newest_keys(store, 0) == [b"a", b"b"]
