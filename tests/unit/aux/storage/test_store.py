import random
import sys

import pytest

from aux.storage.partition_data import NEVER, PartitionData
from aux.storage.store import Store
from ringmaster.protocol import entry as layout
from ringmaster.protocol.entry_meta import Meta, pack_meta


def entry_of(value: bytes = b"v", *, expires_ms: int = 0, swr_ms: int = 0, slot: int = 0) -> bytes:
    return layout.pack(
        slot=slot,
        term=1,
        seq=1,
        expires_ms=expires_ms,
        written_s=0,
        flags=0,
        meta=pack_meta(Meta(swr_ms=swr_ms)),
        value=value,
    )


def fill(store: Store, data, count: int, **kwargs) -> None:
    for number in range(count):
        store.put(data, b"%d" % number, entry_of(**kwargs))


def swept(store: Store, data, now_ms: int) -> list[bytes]:
    """Everything due, as a sweep collects it in several calls."""
    keys: list[bytes] = []
    for _ in range(len(data.entries) // 2048 + 2):
        keys += store.due(data, now_ms)
    return keys


def test_what_was_put_is_read_back_but_for_the_slot():
    store = Store(1 << 20, 8)
    data = store.open(3, evictable=True)
    for number, value in enumerate((b"", b"x" * 100, b"y" * 100_000)):
        given = entry_of(value, slot=0xFFFFFFFF)
        store.put(data, b"%d" % number, given)
        kept = store.touch(data, b"%d" % number)
        assert kept[layout.SLOT_SIZE :] == given[layout.SLOT_SIZE :]
    assert store.touch(data, b"absent") is None
    assert store.entries == 3


def test_an_overwrite_keeps_the_slot_and_no_two_entries_share_one():
    store = Store(1 << 20, 8)
    data = [store.open(n, evictable=n == 0) for n in range(2)]
    fill(store, data[0], 50)
    fill(store, data[1], 50)
    before = layout.header(data[0].entries[b"7"]).slot
    store.put(data[0], b"7", entry_of(b"other", slot=3))
    assert layout.header(data[0].entries[b"7"]).slot == before
    for number in range(0, 50, 2):
        store.remove(data[0], b"%d" % number)
    fill(store, data[1], 80)
    slots = [layout.header(entry).slot for one in data for entry in one.entries.values()]
    assert len(set(slots)) == len(slots) == store.entries
    assert max(slots) < 105, "freed slots are used again"


def test_a_partition_is_opened_once_and_dropped_quietly():
    store = Store(1 << 20, 8)
    data = store.open(1, evictable=True)
    assert store.get(1) is data
    with pytest.raises(ValueError, match="partition 1 is open"):
        store.open(1, evictable=False)
    store.drop(1)
    store.drop(1)
    assert store.get(1) is None
    with pytest.raises(KeyError):
        store.set_evictable(1, evictable=True)


def free(store: Store, data: PartitionData) -> None:
    """What was dropped is freed a little at a time, by whatever comes next."""
    for _ in range(100):
        store.due(data, 0)


def test_bytes_return_to_zero_by_removal_and_by_drop():
    store = Store(1 << 20, 8)
    data = [store.open(n, evictable=n % 2 == 0) for n in range(4)]
    rng = random.Random(3)
    for _ in range(3):
        for one in data:
            for number in range(300):
                store.put(one, b"%d" % number, entry_of(b"z" * rng.randrange(3000)))
        for one in data[:2]:
            for key in list(one.entries):
                store.touch(one, key)
                assert store.remove(one, key)
        assert data[0].bytes == data[1].bytes == 0
        for number in (2, 3):
            store.drop(number)
            data[number] = store.open(number, evictable=number % 2 == 0)
        assert store.entries == 0
        free(store, data[0])
        assert store.bytes == 0
    assert store.remove(data[0], b"gone") is None


def test_an_overwrite_counts_the_difference():
    store = Store(1 << 20, 8)
    data = store.open(0, evictable=True)
    store.put(data, b"k", entry_of(b"x"))
    small = data.bytes
    store.put(data, b"k", entry_of(b"x" * 9_000))
    assert 8_900 < data.bytes - small < 9_100
    store.put(data, b"k", entry_of(b"y"))
    assert data.bytes == store.bytes == small


def test_the_parts_add_up_to_the_total_through_changes_of_role():
    store = Store(1 << 20, 8)
    data = [store.open(n, evictable=n < 2) for n in range(4)]
    for one in data:
        fill(store, one, 100)
    total = store.bytes
    assert total == sum(one.bytes for one in data)
    for evictable in (True, False, False, True):
        for number in range(4):
            store.set_evictable(number, evictable)
        assert store.bytes == total
    for number in range(4):
        store.drop(number)
    free(store, data[0])
    assert store.bytes == 0


def test_a_large_partition_is_dropped_without_a_stall_and_freed_by_what_comes_after():
    store = Store(1 << 30, 8)
    data = store.open(0, evictable=True)
    other = store.open(1, evictable=True)
    fill(store, data, 10_000)
    store.drop(0)
    assert store.entries == 0
    assert not data.entries
    assert store.victim() is None
    assert store.bytes > 10_000 * 100, "freed a little at a time, and counted until then"
    for _ in range(200):
        store.due(other, 0)
    assert store.bytes == 0
    store.put(other, b"k", entry_of())
    assert layout.header(other.entries[b"k"]).slot == 0


def test_the_budget_is_shared_by_the_numbers_of_primary_and_replica_partitions():
    store = Store(40_000, 8, overhead_bytes=4_000)
    data = [store.open(n, evictable=n == 0) for n in range(4)]
    fill(store, data[0], 100)
    assert store.over_bytes() == data[0].bytes - 9_000
    assert store.replica_over_bytes() == 0
    store.set_evictable(1, evictable=True)
    assert store.over_bytes() == max(0, data[0].bytes - 18_000)
    fill(store, data[2], 200)
    assert store.replica_over_bytes() == data[2].bytes - 18_000
    store.set_overhead(40_000)
    assert store.over_bytes() == data[0].bytes
    assert store.overhead_bytes == 40_000
    store.set_overhead(-5)
    assert store.overhead_bytes == 0


def test_evicting_while_over_keeps_the_newest_within_the_budget():
    store = Store(100_000, 8, policy="lru")
    data = [store.open(n, evictable=True) for n in range(8)]
    rng = random.Random(1)
    for number in range(5_000):
        store.put(data[number % 8], b"%d" % number, entry_of(b"x" * rng.randrange(500)))
        while store.over_bytes():
            one, key, _ = store.victim()
            store.remove(one, key)
    assert 90_000 < store.bytes <= 100_000
    kept = sorted(int(key) for one in data for key in one.entries)
    assert kept == list(range(5_000 - len(kept), 5_000))


def test_the_table_is_counted_as_it_grows():
    store = Store(1 << 30, 8)
    data = store.open(0, evictable=True)
    fill(store, data, 5_000)
    assert data.table_bytes >= 0.9 * (sys.getsizeof(data.entries) - sys.getsizeof({}))


def may_expire(data: PartitionData) -> bool:
    """Where this is false, `RM.GET` looks at no entry's expiry."""
    return data.next_due_ms < NEVER or bool(data.scan)


def test_due_keys_are_those_past_expiry_and_grace():
    store = Store(1 << 20, 8)
    data = store.open(0, evictable=True)
    store.put(data, b"never", entry_of())
    assert not may_expire(data)
    store.put(data, b"soon", entry_of(expires_ms=1_000))
    store.put(data, b"grace", entry_of(expires_ms=1_000, swr_ms=50_000))
    store.put(data, b"later", entry_of(expires_ms=90_000))
    assert may_expire(data)
    assert store.due(data, 999) == []
    assert store.due(data, 1_000) == [b"soon"]
    store.remove(data, b"soon")
    assert store.due(data, 30_000) == []
    assert swept(store, data, 51_000) == [b"grace"]
    store.remove(data, b"grace")
    assert swept(store, data, 90_000) == [b"later"]
    store.remove(data, b"later")
    assert swept(store, data, 160_000) == []
    assert not may_expire(data)


def test_a_due_key_that_was_left_is_reported_again_later():
    store = Store(1 << 20, 8)
    data = store.open(0, evictable=True)
    store.put(data, b"k", entry_of(expires_ms=10))
    assert store.due(data, 10) == [b"k"]
    assert store.due(data, 11) == []
    assert store.due(data, 2_000) == [b"k"]


def test_a_key_written_again_with_a_later_expiry_is_not_due():
    store = Store(1 << 20, 8)
    data = store.open(0, evictable=True)
    store.put(data, b"k", entry_of(expires_ms=10))
    store.put(data, b"k", entry_of(expires_ms=70_000))
    assert store.due(data, 10_000) == []
    assert data.next_due_ms == 70_000
    store.remove(data, b"k")
    assert data.next_due_ms == NEVER


def test_a_partition_is_not_gone_through_again_at_once_when_little_was_due():
    store = Store(1 << 20, 8)
    data = store.open(0, evictable=True)
    for number in range(1_000):
        store.put(data, b"%d" % number, entry_of(expires_ms=1_000 + number))
    assert len(store.due(data, 1_000)) == 1
    assert store.due(data, 1_500) == []
    assert len(store.due(data, 2_001)) == 1_000


def test_a_large_partition_is_gone_through_in_steps_that_miss_nothing_written_meanwhile():
    store = Store(1 << 30, 8)
    data = store.open(0, evictable=True)
    fill(store, data, 10_000, expires_ms=100)
    first = store.due(data, 100)
    assert 0 < len(first) <= 2_048
    store.put(data, b"meanwhile", entry_of(expires_ms=150))
    found = set(first)
    for now_ms in (100, 100, 100, 100, 100, 5_000):
        keys = store.due(data, now_ms)
        assert len(keys) <= 2_048
        found.update(keys)
    for now_ms in range(5_000, 5_010):
        found.update(store.due(data, now_ms))
    assert found == set(data.entries)


def test_expiry_beyond_32_bits_is_read_right_whatever_field_follows_it():
    store = Store(1 << 20, 8)
    data = store.open(0, evictable=True)
    entry = layout.pack(
        slot=0,
        term=1,
        seq=1,
        expires_ms=1 << 41,
        written_s=0xFFFFFFFF,
        flags=0,
        meta=b"",
        value=b"",
    )
    store.put(data, b"k", entry)
    assert data.next_due_ms == 1 << 41
    assert store.due(data, (1 << 41) - 1) == []
    assert store.due(data, 1 << 41) == [b"k"]


def test_a_partition_shows_its_state():
    store = Store(1 << 20, 8)
    assert repr(store.open(0, evictable=True)) == "<PartitionData 0 primary entries=0 bytes=0>"
    assert "replica" in repr(store.open(1, evictable=False))
