"""After the loss of every copy: what comes back, in which order, and what is said of what does not."""

import asyncio
import errno
import random

import pytest
from xxhash import xxh3_64_intdigest

from aux.node.status_report import status_of
from ringmaster.protocol.entry import RESTORED, header, pack
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.snapshot.names import BundleName, ManifestName, Version1Name
from tests.fakes.snapshot_node import SnapshotNode, next_node, started
from tests.fakes.snapshot_store import MemoryStore
from tests.unit.fake_wire import ticks, until


async def written(store: MemoryStore, **options: object) -> SnapshotNode:
    """A node in term 1 that wrote keys 0..9 into each partition; in partition 3 in many blocks."""
    world = await started(store, incarnation="first", **options)
    for partition in range(4):
        for n in range(10):
            world.put(
                partition, b"%d" % n, random.Random(n).randbytes(40_000 if partition == 3 else 10)
            )
    await world.cycle()
    return world


def flip(store: MemoryStore, name: BundleName, at: int) -> None:
    raw = bytearray(store.content[name])
    raw[at] ^= 1
    store.content[name] = bytes(raw)


KEYS = [b"%d" % n for n in range(10)]


async def test_everything_comes_back_in_its_order_and_says_that_it_was_restored(
    store: MemoryStore,
) -> None:
    first = await written(store)
    first.node.store.touch(first.node.roles.primaries[0].data, b"0")
    await first.put_and_cycle(0, b"new")
    second = await next_node(store)
    assert list(second.data(0)) == [*KEYS[1:], b"0", b"new"]
    assert list(second.data(1)) == KEYS
    for key, entry in second.data(0).items():
        decoded = header(entry)
        assert decoded.flags & RESTORED
        assert (decoded.term, decoded.seq) == header(first.data(0)[key])[2:0:-1]
    assert status_of(second.node).restored_entries == 41
    assert status_of(second.node).snapshot_problems == []


async def test_a_partition_is_not_served_before_it_is_loaded(store: MemoryStore) -> None:
    await written(store)
    second = SnapshotNode(store, incarnation="second")
    second.appoint(9, before=1)
    assert second.node.roles.served == {}
    assert status_of(second.node).restoring == [0, 1, 2, 3]
    await second.restored()
    assert len(second.node.roles.served) == 4


async def test_a_new_write_has_a_version_above_every_restored_one_and_no_flag(
    store: MemoryStore,
) -> None:
    await written(store)
    second = await next_node(store)
    second.put(0, b"5", b"new")
    decoded = header(second.data(0)[b"5"])
    assert (decoded.term, decoded.flags & RESTORED) == (9, 0)


async def test_expired_entries_stay_out(store: MemoryStore) -> None:
    first = await written(store)
    now_ms = int(first.clock.wall() * 1000)
    first.put(0, b"soon", expires_ms=now_ms + 20_000)
    first.put(0, b"later", expires_ms=now_ms + 2_000_000)
    await first.cycle()
    first.clock.now += 60
    second = await next_node(store, clock=first.clock)
    assert list(second.data(0)) == [*KEYS, b"later"]


async def test_what_is_served_stale_comes_back_until_that_is_over(store: MemoryStore) -> None:
    first = await started(store, incarnation="first")
    primary = first.node.roles.primaries[0]
    now_ms = int(first.clock.wall() * 1000)
    for key, swr_ms in ((b"stale", 600_000), (b"over", 30_000)):
        graced = pack(
            slot=0, term=primary.term, seq=primary.next_seq, expires_ms=now_ms + 20_000, written_s=0,
            flags=0, meta=pack_meta(Meta(tags=("t",), swr_ms=swr_ms)), value=b"1",
        )  # fmt: skip
        primary.carry(("t",))
        primary.submit(key, graced)
    await first.cycle()
    first.clock.now += 60
    second = await next_node(store, clock=first.clock)
    assert list(second.data(0)) == [b"stale"]
    carriers = second.node.roles.primaries[0].data.carriers
    assert carriers is not None
    assert carriers.has(xxh3_64_intdigest(b"t"))


async def test_the_highest_term_and_sequence_is_the_newest_whatever_its_date(
    store: MemoryStore,
) -> None:
    first = await written(store)
    await first.put_and_cycle(0, b"second round")
    later = await next_node(store, term=4)
    later.put(0, b"third round")
    later.cluster_clock.agree(5000)
    await later.cycle()
    second = await next_node(store)
    assert b"third round" in second.data(0)
    assert second.service.highest_term == 4


async def test_a_snapshot_with_a_higher_term_waits_for_a_view_above_it(store: MemoryStore) -> None:
    first = await started(store, term=20, incarnation="first")
    await first.put_and_cycle(0, b"a")
    second = SnapshotNode(store, incarnation="second")
    second.appoint(5)
    restoring = asyncio.create_task(second.restored())
    await until(lambda: status_of(second.node).snapshot_term == 20)
    await ticks(1000)  # many more than a restore takes
    assert not restoring.done()
    status = status_of(second.node)
    assert status.restoring
    assert status.snapshot_term == 20
    assert second.node.roles.served == {}
    second.appoint(21)
    await restoring
    assert b"a" in second.data(0)
    assert status_of(second.node).snapshot_problems == []


async def test_entries_of_equal_age_in_different_partitions_are_evicted_together(
    store: MemoryStore,
) -> None:
    await written(store)
    second = await next_node(store)
    node = second.node
    node.store.set_policy("lru")
    gone: list[bytes] = []
    for _ in range(12):
        victim = node.store.victim(None)
        assert victim is not None
        gone.append(victim[1])
        node.store.remove(victim[0], victim[1])
    assert sorted(gone) == sorted([b"0", b"1", b"2"] * 4)


async def test_the_newest_are_kept_if_not_all_fit(store: MemoryStore) -> None:
    first = await started(store, incarnation="first")
    for n in range(1000):
        first.put(n % 4, b"%04d" % n, b"x" * 200)
    await first.cycle()
    second = await next_node(store, max_bytes=150_000)
    kept = {key for partition in range(4) for key in second.data(partition)}
    assert 200 < len(kept) < 800
    newest = {b"%04d" % n for n in range(1000 - len(kept) - 40, 1000)}
    assert len(kept & newest) > 0.9 * len(kept)
    assert second.node.store.over_bytes() == 0


async def test_restore_off_starts_empty_but_still_above_every_term(store: MemoryStore) -> None:
    await written(store)
    second = await next_node(store, restore=False)
    assert all(not second.data(n) for n in range(4))
    assert second.service.highest_term == 1
    assert len(second.node.roles.served) == 4


async def test_what_restore_off_left_out_does_not_come_back_later(store: MemoryStore) -> None:
    await written(store)
    second = await next_node(store, restore=False)
    await second.cycle()
    third = await next_node(store, term=12, before=9, incarnation="third")
    assert all(not third.data(n) for n in range(4))
    assert third.service.problems() == []


async def test_snapshots_that_are_too_old_are_not_loaded(store: MemoryStore) -> None:
    first = await written(store)
    first.clock.now += 100
    assert (await next_node(store, clock=first.clock, restore_max_age_s=200.0)).data(0)
    assert not (await next_node(store, clock=first.clock, restore_max_age_s=50.0)).data(0)


async def test_a_missing_file_is_not_silently_taken_for_empty(store: MemoryStore) -> None:
    await written(store)
    (name,) = store.bundles
    del store.content[name]
    second = await next_node(store)
    assert len(second.node.roles.served) == 4
    (problem,) = status_of(second.node).snapshot_problems
    assert "no snapshot was found of 4 partitions" in problem
    assert str(name) in problem
    assert problem.endswith(": 0, 1, 2, 3")
    assert second.service.restorer.damage_log.missing_files == 4


async def test_an_older_file_beside_the_missing_one_does_not_hide_it(store: MemoryStore) -> None:
    first = await written(store)
    first.put(2, b"new")
    first.put(3, b"new")
    await first.cycle()
    newest = store.bundles[-1]
    del store.content[newest]
    second = await next_node(store)
    assert list(second.data(2)) == KEYS
    (problem,) = second.service.problems()
    assert "the newest snapshot of 2 partitions was not found" in problem
    assert str(newest) in problem
    await second.cycle()
    third = await next_node(store, term=12, before=9)
    assert list(third.data(2)) == KEYS
    assert third.service.problems() == []


async def test_a_store_that_lost_everything_is_not_taken_for_a_new_one(store: MemoryStore) -> None:
    await written(store)
    store.content.clear()
    second = await next_node(store)
    assert "no snapshot was found of 4 partitions" in second.service.problems()[0]


async def test_a_manifest_that_is_missing_or_damaged_is_named(store: MemoryStore) -> None:
    await written(store)
    name = ManifestName("first")
    good = store.content[name]
    for length in range(len(good)):
        store.content[name] = good[:length]
        second = await next_node(store)
        assert str(name) in second.service.problems()[0]
        assert list(second.data(0)) == KEYS
    del store.content[name]
    second = await next_node(store)
    assert str(name) in second.service.problems()[0]
    assert list(second.data(0)) == KEYS


async def test_files_of_version_1_are_named_and_their_terms_are_not_used_again(
    store: MemoryStore,
) -> None:
    old = Version1Name("p00002-t7-s12-first.snap", 2, 7)
    store.content[old] = b"RMSNAP"  # type: ignore[index]
    second = await next_node(store)
    assert "version 1" in second.service.problems()[0]
    assert str(old) in second.service.problems()[0]
    assert second.service.highest_term == 7
    assert "started empty" in second.service.problems()[1]


async def test_values_that_were_deleted_do_not_come_back_with_a_damaged_empty_section(
    store: MemoryStore,
) -> None:
    first = await written(store)
    for key in KEYS:
        first.node.roles.primaries[0].submit(key, None)
    await first.cycle()
    stored = store.of(0)[0]
    flip(store, stored.bundle, stored.section.end - 5)
    second = await next_node(store)
    assert second.data(0) == {}
    assert second.service.problems()


async def test_a_new_cluster_misses_no_snapshot(store: MemoryStore) -> None:
    world = await started(store)
    assert world.service.problems() == []


async def test_a_damaged_block_costs_its_entries_alone_and_is_named(store: MemoryStore) -> None:
    first = await written(store)
    section, name, _ = store.of(3)[0]
    flip(store, name, section.offset + section.size // 2)
    second = await next_node(store)
    assert 5 <= len(second.data(3)) < 10
    assert set(second.data(3)) < set(first.data(3))
    (problem,) = status_of(second.node).snapshot_problems
    assert "partition 3 is damaged" in problem
    assert str(name) in problem
    assert second.service.restorer.damage_log.damaged_files == 1
    assert second.service.restorer.damage_log.lost_entries == 10 - len(second.data(3))


async def test_lost_entries_are_not_taken_from_an_older_file(store: MemoryStore) -> None:
    first = await written(store)
    first.node.roles.primaries[3].submit(b"0", None)
    await first.cycle()
    section, name, _ = store.of(3)[0]
    flip(store, name, section.end - 100_000)
    second = await next_node(store)
    assert b"0" not in second.data(3)
    assert second.data(3)


async def test_an_unreadable_file_gives_way_to_the_one_before(store: MemoryStore) -> None:
    first = await written(store)
    await first.put_and_cycle(0, b"new")
    name = store.bundles[-1]
    store.content[name] = b"garbage"
    second = await next_node(store)
    assert list(second.data(0)) == KEYS
    assert all(str(name) in problem for problem in second.service.problems())


async def test_a_section_of_which_nothing_can_be_read_gives_way_to_the_one_before(
    store: MemoryStore,
) -> None:
    first = await written(store)
    await first.put_and_cycle(0, b"new")
    section, name, _ = store.of(0)[0]
    flip(store, name, section.offset + 150)
    second = await next_node(store)
    assert list(second.data(0)) == KEYS
    assert "nothing" in second.service.problems()[0] or "11 of 11" in second.service.problems()[0]


async def test_a_damaged_file_is_kept_for_whoever_looks_into_it(store: MemoryStore) -> None:
    await written(store)
    (name,) = store.bundles
    flip(store, name, store.of(0)[0].section.offset + 150)
    second = await next_node(store, keep=1)
    for n in range(4):
        for partition in range(4):
            second.put(partition, b"%d" % n)
        await second.cycle()
    assert name in store.content
    assert len(store.bundles) == 2


@pytest.mark.thorough
async def test_whatever_is_done_to_the_bytes_the_node_serves_and_says_what_is_wrong(
    store: MemoryStore,
) -> None:
    first = await written(store)
    (name,) = store.bundles
    raw = store.content[name]
    noise = random.Random(5)
    for round_number in range(300):
        damaged = bytearray(raw)
        if round_number % 2:
            del damaged[noise.randrange(len(raw)) :]
        else:
            damaged[noise.randrange(len(raw))] ^= 1 << noise.randrange(8)
        store.content[name] = bytes(damaged)
        second = await next_node(store)
        assert len(second.node.roles.served) == 4
        for partition in range(4):
            assert set(second.data(partition)) <= set(first.data(partition))
        assert second.service.problems()
        losses = second.service.restorer.damage_log
        assert losses.damaged_files or losses.missing_files


async def test_a_disk_that_cannot_be_read_is_damage_not_emptiness(store: MemoryStore) -> None:
    await written(store)

    def fail(operation: str) -> None:
        if operation == "open":
            raise OSError(errno.EIO, "Input/output error")

    store.fails = fail
    second = await next_node(store)
    assert len(second.node.roles.served) == 4
    problems = second.service.problems()
    assert len([each for each in problems if "Input/output error" in each]) == 2


async def test_while_the_volume_is_away_nothing_is_taken_for_empty(store: MemoryStore) -> None:
    await written(store)
    refused = 2

    def fail(operation: str) -> None:
        nonlocal refused
        if operation == "files" and refused:
            refused -= 1
            raise OSError(errno.ESTALE, "Stale file handle")

    store.fails = fail
    second = await next_node(store)
    assert refused == 0
    assert list(second.data(1)) == KEYS


async def test_a_section_that_cannot_be_read_while_it_is_restored_is_damage(
    store: MemoryStore,
) -> None:
    await written(store)
    opened = 0

    def fail(operation: str) -> None:
        nonlocal opened
        opened += operation == "open"
        if operation == "open" and opened > 2:
            raise OSError(errno.EIO, "Input/output error")

    store.fails = fail
    second = await next_node(store)
    assert len(second.node.roles.served) == 4
    assert len(second.service.restorer.damage_log.damages()) == 4
    assert "Input/output error" in second.service.problems()[0]


async def test_a_file_under_the_name_of_another_is_refused(store: MemoryStore) -> None:
    await written(store)
    (name,) = store.bundles
    store.content[BundleName("other", 5)] = store.content[name]
    second = await next_node(store)
    assert list(second.data(0)) == KEYS
    assert any("do not match" in problem for problem in second.service.problems())


async def test_a_partition_lost_again_while_it_is_restored_leaves_the_store_in_order(
    store: MemoryStore,
) -> None:
    await written(store)
    second = SnapshotNode(store, incarnation="second")
    second.appoint(9, before=1)
    second.node.give_up("test")
    await second.restored()
    assert second.node.store.entries == 0
    assert second.node.store.bytes == 0
