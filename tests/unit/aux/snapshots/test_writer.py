"""Which partitions are written when, and what goes to disk."""

from aux.node.status_report import status_of
from aux.snapshots.due import EARLY_S
from aux.snapshots.schedule import SLICE_BYTES, Schedule
from ringmaster.snapshot.format import SectionId
from ringmaster.snapshot.names import BundleName, ManifestName
from tests.fakes.cluster import FakeClock
from tests.fakes.snapshot_node import SnapshotNode, next_node, started
from tests.fakes.snapshot_store import CLUSTER, MemoryStore
from tests.unit.turns import turns_counted


def versions(store: MemoryStore, partition: int) -> list[tuple[int, int]]:
    return [stored.section.id.version for stored in store.of(partition)]


async def test_a_round_writes_one_file_of_all_that_changed_and_nothing_if_nothing_did(
    store: MemoryStore,
) -> None:
    world = await started(store)
    world.put(0, b"a")
    world.put(3, b"b")
    assert await world.cycle()
    assert store.catalog().sections.keys() == {0, 3}
    assert len(store.bundles) == 1
    assert await world.cycle()
    assert len(store.bundles) == 1
    world.put(0, b"c")
    assert await world.cycle()
    assert versions(store, 0) == [(1, 2), (1, 1)]
    assert versions(store, 3) == [(1, 1)]
    assert len(store.bundles) == 2


async def test_nothing_is_written_before_half_an_interval_has_passed(store: MemoryStore) -> None:
    world = await started(store)
    world.put(0, b"a")
    writer = world.service.writer
    world.clock.now += writer.options.interval_s * 0.49
    writer.due.find()
    assert await writer.write_due()
    assert store.content == {}


async def test_nodes_begin_their_rounds_at_different_times() -> None:
    begins = {Schedule(FakeClock(), f"aux{n}", 10.0).next_at for n in range(1, 6)}
    assert len(begins) == 5
    assert max(begins) - min(begins) <= 5.0


async def test_a_partition_that_never_held_anything_is_not_written(store: MemoryStore) -> None:
    world = await started(store)
    await world.put_and_cycle(1, b"a")
    assert store.catalog().sections.keys() == {1}
    again = await next_node(store)
    assert status_of(again.node).snapshot_problems == []
    await again.cycle()
    again.node.roles.seal()
    assert await again.service.writer.seal(5)
    assert len(store.bundles) == 1


async def test_a_partition_that_became_empty_says_so(store: MemoryStore) -> None:
    world = await started(store)
    await world.put_and_cycle(1, b"a")
    world.node.roles.primaries[1].submit(b"a", None)
    await world.cycle()
    assert versions(store, 1) == [(1, 2), (1, 1)]
    assert store.of(1)[0].section.entries == 0
    assert store.newest_keys(1) == []


async def test_where_nothing_was_ever_written_a_manifest_says_so(store: MemoryStore) -> None:
    world = await started(store)
    await world.cycle()
    await world.cycle()
    assert list(store.content) == [ManifestName("inc1")]
    again = await next_node(store)
    assert again.service.problems() == []


async def test_an_entry_is_on_disk_an_interval_after_it_was_written_whenever_that_was(
    store: MemoryStore,
) -> None:
    world = await started(store, partitions=16)
    writer = world.service.writer
    for step in range(60):
        world.put(step % 16, b"key-%d" % step)
        for _ in range(20):
            world.clock.now += writer.options.interval_s / 20
            writer.due.find()
            assert await writer.write_due()
        assert b"key-%d" % step in store.newest_keys(step % 16)
        world.clock.now += 0.37


async def test_what_was_taken_over_from_another_node_is_written_ahead_of_the_round(
    store: MemoryStore,
) -> None:
    world = await started(store)
    await world.put_and_cycle(2, b"a")
    world.appoint(5)
    writer = world.service.writer
    world.clock.now += EARLY_S
    writer.due.find()
    assert await writer.write_due()
    assert versions(store, 2)[0][0] == 5
    assert store.catalog().sections.keys() == {2}


async def test_what_was_restored_whole_is_not_written_again(store: MemoryStore) -> None:
    world = await started(store)
    await world.put_and_cycle(2, b"a")
    again = await next_node(store)
    await again.cycle()
    assert len(store.bundles) == 1
    await again.put_and_cycle(2, b"b")
    assert store.newest_keys(2) == [b"a", b"b"]


async def test_entries_are_written_in_recency_order(store: MemoryStore) -> None:
    world = await started(store)
    for key in (b"a", b"b", b"c"):
        world.put(0, key)
    world.node.store.touch(world.node.roles.primaries[0].data, b"a")
    await world.cycle()
    assert store.newest_keys(0) == [b"b", b"c", b"a"]


async def test_the_header_names_cluster_partition_and_version(store: MemoryStore) -> None:
    world = await started(store)
    await world.put_and_cycle(3, b"a")
    section, name, header = store.of(3)[0]
    assert (header.cluster, header.partitions, header.incarnation) == (CLUSTER, 4, "inc1")
    assert (section.id, section.entries, header.sealed) == (SectionId(3, 1, 1), 1, False)
    assert name == BundleName("inc1", header.number)


async def test_a_partition_larger_than_a_batch_arrives_whole(store: MemoryStore) -> None:
    world = await started(store, max_bytes=100_000_000)
    for n in range(12):
        world.put(1, b"key-%d" % n, bytes(1_000_000))
    await world.cycle()
    assert store.newest_keys(1) == [b"key-%d" % n for n in range(12)]


async def test_a_request_writes_everything_now_and_says_how_it_stands(store: MemoryStore) -> None:
    world = await started(store, interval_s=0)
    writer = world.service.writer
    world.put(0, b"a")
    request = writer.request("one")
    assert writer.request("one") is request
    assert (request.state, request.partitions) == ("running", 1)
    await writer.write_due()
    assert request.state == "done"
    assert store.newest_keys(0) == [b"a"]


async def test_without_an_interval_nothing_is_written_by_itself(store: MemoryStore) -> None:
    world = await started(store, interval_s=0)
    world.put(0, b"a")
    world.clock.now += 1000
    world.service.writer.due.find()
    await world.service.writer.write_due()
    assert store.content == {}


async def test_the_seal_holds_everything_and_the_last_order(store: MemoryStore) -> None:
    world = await started(store)
    for key in (b"a", b"b"):
        world.put(0, key)
    await world.cycle()
    world.node.store.touch(world.node.roles.primaries[0].data, b"a")
    world.put(1, b"late")
    world.node.roles.seal()
    assert not world.node.roles.served
    assert await world.service.writer.seal(5)
    assert store.newest_keys(0) == [b"b", b"a"]
    assert store.newest_keys(1) == [b"late"]
    assert store.of(1)[0].header.sealed
    assert len(store.bundles) == 2


async def test_what_is_handed_over_to_a_node_while_it_seals_is_in_its_last_snapshot(
    store: MemoryStore,
) -> None:
    world = await started(store)
    world.put(0, b"a")
    late: list[bytes] = []

    def hand_over(operation: str) -> None:
        if operation == "publish" and not late:
            late.append(b"late")
            world.put(1, b"late")

    store.fails = hand_over
    world.node.roles.seal()
    assert await world.service.writer.seal(5)
    assert store.newest_keys(1) == [b"late"]
    assert store.of(1)[0].header.sealed


async def test_a_partition_that_is_being_restored_is_not_written(store: MemoryStore) -> None:
    first = await started(store)
    await first.put_and_cycle(0, b"a")
    before = dict(store.content)
    second = SnapshotNode(store, incarnation="inc2")
    second.appoint(9, before=1)
    await second.cycle()
    second.node.roles.seal()
    await second.service.writer.seal(1)
    assert store.content == before


async def test_a_clock_that_jumps_changes_nothing_about_which_file_is_newest(
    store: MemoryStore,
) -> None:
    world = await started(store)
    await world.put_and_cycle(0, b"a")
    world.cluster_clock.agree(5000)
    await world.put_and_cycle(0, b"b")
    assert store.newest_keys(0) == [b"a", b"b"]


async def test_the_loop_is_never_held_for_long_while_a_partition_is_written(
    store: MemoryStore,
) -> None:
    world = await started(store, max_bytes=100_000_000)
    for n in range(20_000):
        world.put(0, b"key-%06d" % n, b"x" * 100)
    async with turns_counted() as turns:
        await world.cycle()
    assert turns.count >= 20_000 * 150 / SLICE_BYTES


async def test_a_node_has_one_file_open_at_a_time(store: MemoryStore) -> None:
    world = await started(store, partitions=512)
    most = 0

    def count(_: str) -> None:
        nonlocal most
        most = max(most, len(store.drafts))

    store.fails = count
    for n in range(512):
        world.put(n, b"a")
    await world.cycle()
    assert len(store.catalog().sections) == 512
    assert len(store.bundles) == 1
    assert most == 1


async def test_a_request_is_not_met_by_a_cut_that_was_made_before_it(store: MemoryStore) -> None:
    world = await started(store)
    writer = world.service.writer
    world.put(0, b"a")
    requests = []

    def meanwhile(operation: str) -> None:
        if operation == "begin" and not requests:
            world.put(0, b"b")
            requests.append(writer.request("one"))

    store.fails = meanwhile
    await world.cycle()
    assert requests[0].state == "running"
    await writer.write_due()
    assert requests[0].state == "done"
    assert store.newest_keys(0) == [b"a", b"b"]
