"""Which files go when, so that disk use is bounded and nothing that is needed ever goes."""

import random

from aux.snapshots.retention import MAX_BUNDLES
from ringmaster.cluster.view import NodeInfo, Partition, View
from ringmaster.snapshot.names import BundleName, ManifestName
from tests.fakes.snapshot_node import SnapshotNode, next_node, started
from tests.fakes.snapshot_store import CLUSTER, MemoryStore

VALUE = random.Random(1).randbytes(2000)


async def round_of(world: SnapshotNode, *partitions: int) -> None:
    for number in partitions:
        world.put(number, b"k", VALUE)
    assert await world.cycle()


def numbers(store: MemoryStore, incarnation: str | None = None) -> list[int]:
    return sorted(name.number for name in store.bundles if incarnation in {None, name.incarnation})


def view_of(epoch: int, rows: tuple[Partition, ...], **incarnations: str) -> View:
    """`incarnations` of the nodes that are up."""
    nodes = {
        node: NodeInfo(id=node, incarnation=incarnation, address=f"{node}:1")
        for node, incarnation in incarnations.items()
    }
    return View(cluster=CLUSTER, epoch=epoch, replicas=1, table=rows, nodes=nodes)


def rot(store: MemoryStore, name: BundleName) -> None:
    """Every byte of the bundle changes, and its size does not."""
    store.content[name] = bytes(byte ^ 1 for byte in store.content[name])


async def test_the_last_rounds_are_kept_and_older_ones_removed(store: MemoryStore) -> None:
    world = await started(store, keep=3)
    for _ in range(6):
        await round_of(world, 0, 1, 2, 3)
    assert numbers(store) == [4, 5, 6]


async def test_with_one_round_to_keep_only_the_newest_stays(store: MemoryStore) -> None:
    world = await started(store, keep=1)
    for _ in range(3):
        await round_of(world, 0, 1, 2, 3)
    assert numbers(store) == [3]


async def test_the_only_copy_of_a_partition_never_goes(store: MemoryStore) -> None:
    world = await started(store, keep=1)
    await round_of(world, 0, 1)
    for _ in range(10):
        await round_of(world, 1)
        assert store.of(0)
        assert store.of(1)


async def test_a_file_kept_for_few_partitions_is_given_up_and_they_are_written_again(
    store: MemoryStore,
) -> None:
    world = await started(store, keep=2, partitions=8)
    await round_of(world, *range(8))
    for _ in range(8):
        await round_of(world, *range(1, 8))
    assert len(store.bundles) <= 4
    assert 1 not in numbers(store)
    assert store.of(0)[0].section.id.version == (1, 1)


async def test_an_idle_node_ends_tidying_up(store: MemoryStore) -> None:
    world = await started(store, keep=2, partitions=8)
    await round_of(world, *range(8))
    await round_of(world, *range(1, 8))
    await round_of(world, *range(1, 8))
    await round_of(world, 1)
    for _ in range(6):
        await round_of(world)
    before = dict(store.content)
    for _ in range(3):
        await round_of(world)
    assert store.content == before


async def test_many_small_files_are_joined(store: MemoryStore) -> None:
    world = await started(store, partitions=128, keep=2)
    for number in range(128):
        await round_of(world, number)
        assert len(store.bundles) <= MAX_BUNDLES + 6
    assert len(store.catalog().sections) == 128


async def test_disk_use_is_bounded(store: MemoryStore) -> None:
    world = await started(store, partitions=32, keep=2)
    noise = random.Random(7)
    await round_of(world, *range(32))
    whole = len(store.content[store.bundles[0]])
    for _ in range(150):
        await round_of(world, *noise.sample(range(32), noise.choice([1, 2, 5, 30])))
        total = sum(len(store.content[name]) for name in store.bundles)
        assert total <= (2 + 4) * whole
    assert len(store.catalog().sections) == 32


async def test_what_the_dead_left_goes_once_it_is_not_needed(store: MemoryStore) -> None:
    first = await started(store, keep=2)
    await round_of(first, 0, 1, 2, 3)
    second = await next_node(store, keep=2)
    for _ in range(3):
        await round_of(second, 0, 1, 2, 3)
    assert [name.incarnation for name in store.bundles] == ["inc2", "inc2"]
    await round_of(second, 0)
    assert ManifestName("inc1") not in store.content
    assert ManifestName("inc2") in store.content


async def test_a_file_of_a_live_node_is_its_own_affair(store: MemoryStore) -> None:
    first = await started(store, keep=1)
    await round_of(first, 0, 1, 2, 3)
    second = await next_node(store, keep=1)
    retention = second.service.writer._retention
    for _ in range(3):
        await round_of(second, 0, 1, 2, 3)
    store.content[BundleName("inc3", 1)] = store.content[store.bundles[0]]
    view = view_of(10, (Partition("n1", term=9),) * 4, n1="inc2", n2="inc3")
    retention.tidy([0, 1, 2, 3], view, 0)
    assert BundleName("inc3", 1) in store.content


async def test_of_a_partition_that_nobody_holds_nothing_goes_before_it_is_written_again(
    store: MemoryStore,
) -> None:
    first = await started(store)
    for value in (b"1", b"2", b"3"):
        await first.put_and_cycle(0, b"k", value)
    survivor = SnapshotNode(store, incarnation="inc2", keep=1)
    others = (Partition("n1", term=2),) * 3
    there = view_of(2, (Partition("n2", term=1), *others), n1="inc2", n2="inc1")
    survivor.adopt(there)
    await survivor.restored()
    await round_of(survivor, 1)  # it has looked at every bundle, and knows them as sound
    rot(store, BundleName("inc1", 2))
    rot(store, BundleName("inc1", 3))
    survivor.adopt(view_of(3, (Partition(term=1), *others), n1="inc2"))
    for _ in range(3):
        await round_of(survivor, 1)
    assert numbers(store, "inc1") == [1, 2, 3]

    appointed = view_of(4, (Partition("n3", term=4), *others), n1="inc2", n3="inc3")
    survivor.adopt(appointed)
    for _ in range(3):
        await round_of(survivor, 1)
    third = await next_node(store, incarnation="inc3")
    assert third.data(0)[b"k"].endswith(b"1")


async def test_partitions_that_a_restore_may_need_old_bundles_of_are_written_again(
    store: MemoryStore,
) -> None:
    first = await started(store, keep=3)
    for _ in range(3):
        await round_of(first, 0, 1, 2, 3)
    second = await next_node(store, keep=2)
    await round_of(second, 1)
    assert numbers(store, "inc1") == [1, 2, 3]
    for _ in range(4):
        await round_of(second, 1)
    assert numbers(store, "inc1") == []
    assert {stored.bundle.incarnation for n in range(4) for stored in store.of(n)} == {"inc2"}


async def test_a_newer_section_than_ours_is_never_removed(store: MemoryStore) -> None:
    world = await started(store, keep=1)
    await round_of(world, 0)
    successor = await next_node(store, term=8, incarnation="inc8")
    await round_of(successor, 0)
    for _ in range(4):
        await round_of(world, 0, 1)
    assert store.of(0)[0].bundle == BundleName("inc8", 1)


async def test_a_failure_to_remove_costs_nothing(store: MemoryStore) -> None:
    world = await started(store, keep=1)

    def fail(operation: str) -> None:
        if operation == "delete":
            raise OSError("Read-only file system")

    store.fails = fail
    for _ in range(3):
        await round_of(world, 0)
    assert world.service.problems() == []
    assert numbers(store) == [1, 2, 3]
    store.fails = lambda _: None
    await round_of(world, 0)
    assert numbers(store) == [4]
