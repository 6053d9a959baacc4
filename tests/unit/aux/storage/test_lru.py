"""Recency and the choice of the victim, against published figures' method: a plain OrderedDict."""

import random
from array import array
from collections import OrderedDict

import pytest

from aux.storage.partition_data import NEVER, PartitionData
from aux.storage.policy import LOADED_TICKS
from aux.storage.store import Store
from bench.traces import kind_of, read_trace, replay
from ringmaster.protocol.entry import pack


def entry_of(value: bytes = b"v") -> bytes:
    return pack(slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=b"", value=value)


def opened(partitions: int, *, evictable: bool = True) -> tuple[Store, list[PartitionData]]:
    store = Store(1 << 30, partitions, policy="lru")
    return store, [store.open(number, evictable=evictable) for number in range(partitions)]


def evicted_in_order(store: Store, among=None) -> list[bytes]:
    order = []
    while victim := store.victim(among):
        order.append(victim[1])
        assert store.remove(victim[0], victim[1]) == victim[2]
    return order


def test_the_least_recently_used_of_all_partitions_goes_first():
    store, data = opened(4)
    for number in range(12):
        store.put(data[number * 7 % 4], b"%d" % number, entry_of())
    store.touch(data[0], b"0")
    store.put(data[1 * 7 % 4], b"1", entry_of(b"again"))
    assert evicted_in_order(store) == [b"%d" % n for n in (*range(2, 12), 0, 1)]


def test_asking_for_the_victim_changes_nothing():
    store, data = opened(2)
    store.put(data[0], b"a", entry_of())
    store.put(data[1], b"b", entry_of())
    assert [store.victim()[1] for _ in range(3)] == [b"a"] * 3
    store.touch(data[0], b"a")
    assert store.victim()[1] == b"b"


def test_a_choice_narrowed_to_some_partitions_is_exact_among_them_and_leaves_the_others_order_alone():
    store, data = opened(8)
    for number in range(40):
        store.put(data[number % 8], b"%d" % number, entry_of())
    some = frozenset({2, 5})
    assert store.victim()[1] == b"0"
    assert evicted_in_order(store, some) == [b"%d" % n for n in range(40) if n % 8 in some]
    store.put(data[2], b"late", entry_of())
    assert store.victim(some)[1] == b"late"
    assert store.victim({2, 3})[1] == b"3"
    assert store.victim([]) is None
    assert evicted_in_order(store) == [b"%d" % n for n in range(40) if n % 8 not in some] + [
        b"late"
    ]


def test_a_narrowed_choice_sees_a_partition_that_lost_its_role_and_got_it_back():
    store, data = opened(2)
    some = frozenset({1})
    store.put(data[0], b"a", entry_of())
    store.put(data[1], b"b", entry_of())
    assert store.victim(some)[1] == b"b"
    store.set_evictable(1, evictable=False)
    assert store.victim(some) is None
    store.set_evictable(1, evictable=True)
    assert store.victim(some)[1] == b"b"


def test_a_replica_is_never_a_victim_and_its_reads_do_not_count():
    store, data = opened(2, evictable=False)
    for key in (b"a", b"b"):
        store.put(data[0], key, entry_of())
    assert store.victim() is None
    assert store.touch(data[0], b"a") is not None
    store.set_evictable(0, evictable=True)
    assert evicted_in_order(store) == [b"a", b"b"]


def test_a_promoted_replica_joins_in_the_order_of_its_writes():
    store, data = opened(2)
    store.set_evictable(1, evictable=False)
    for number in range(10):
        store.put(data[number % 2], b"%d" % number, entry_of())
    store.set_evictable(1, evictable=True)
    assert evicted_in_order(store) == [b"%d" % n for n in range(10)]


def test_a_demoted_partition_promoted_again_keeps_its_order():
    store, data = opened(2)
    for number in range(10):
        store.put(data[number % 2], b"%d" % number, entry_of())
    store.set_evictable(0, evictable=False)
    assert store.victim()[1] == b"1"
    store.touch(data[0], b"0")
    store.put(data[0], b"2", entry_of())
    store.set_evictable(0, evictable=True)
    assert evicted_in_order(store) == [b"%d" % n for n in (0, 1, 3, 4, 5, 6, 7, 8, 9, 2)]


def test_a_partition_dropped_and_opened_again_has_only_new_entries():
    store, data = opened(2)
    store.put(data[0], b"old", entry_of())
    store.put(data[1], b"other", entry_of())
    store.drop(0)
    assert store.victim()[1] == b"other"
    again = store.open(0, evictable=True)
    store.put(again, b"new", entry_of())
    assert evicted_in_order(store) == [b"other", b"new"]


def test_the_order_holds_when_the_front_batch_is_overtaken_by_touches_removals_and_returning_keys():
    store, data = opened(1)
    model: OrderedDict[bytes, None] = OrderedDict()
    rng = random.Random(5)
    for step in range(20_000):
        key = b"%d" % rng.randrange(1500)
        roll = rng.random()
        if roll < 0.4:
            store.put(data[0], key, entry_of())
            model[key] = None
            model.move_to_end(key)
        elif roll < 0.8:
            assert (store.touch(data[0], key) is not None) == (key in model)
            if key in model:
                model.move_to_end(key)
        elif roll < 0.9:
            store.remove(data[0], key)
            model.pop(key, None)
        elif model:
            oldest = next(iter(model))
            assert store.victim()[1] == oldest
            if step % 2:
                store.remove(data[0], oldest)
                del model[oldest]
    assert list(data[0].entries) == list(model)
    assert evicted_in_order(store) == list(model)


def model_hits(requests: list[tuple[bytes, int]], capacity: int, *, by_entries: bool) -> int:
    cache: OrderedDict[bytes, int] = OrderedDict()
    hits = used = 0
    for key, size in requests:
        weight = 1 if by_entries else size
        if key in cache:
            hits += 1
            cache.move_to_end(key)
            continue
        if weight > capacity:
            continue
        cache[key] = weight
        used += weight
        while used > capacity:
            used -= cache.popitem(last=False)[1]
    return hits


def test_a_trace_replayed_hits_exactly_as_often_as_a_plain_lru():
    rng = random.Random(11)
    sizes = {}
    requests = []
    for _ in range(20_000):
        key = b"%d" % int(rng.paretovariate(0.6) % 3000)
        requests.append((key, sizes.setdefault(key, rng.randrange(3000))))
    for partitions in (1, 16):
        for capacity in (20, 300):
            found = replay(requests, capacity, by_entries=True, partitions=partitions, policy="lru")
            assert found.hits == model_hits(requests, capacity, by_entries=True)
        for capacity in (2_000, 100_000):
            found = replay(
                requests, capacity, by_entries=False, partitions=partitions, policy="lru"
            )
            assert found.hits == model_hits(requests, capacity, by_entries=False)
    assert found.requests == 20_000
    assert 0 < found.byte_percent < 100


def test_trace_files_of_both_formats_are_read(tmp_path):
    sized = tmp_path / "a.tsv"
    sized.write_text("k1\t10\nk2\t0\n")
    assert list(read_trace(sized)) == [(b"k1", 10), (b"k2", 0)]
    blocks = tmp_path / "b.lis"
    blocks.write_text("5 3 0 1\n9 1 0 2\n")
    assert list(read_trace(blocks)) == [(b"5", 1), (b"6", 1), (b"7", 1), (b"9", 1)]
    assert kind_of(tmp_path / "x.lis.zst") == "lis"


def test_a_new_partition_expires_nothing():
    assert PartitionData(0, evictable=True).next_due_ms == NEVER


def test_many_touches_at_once_are_single_touches_in_their_order():
    rng = random.Random(7)
    keys = [b"%d" % number for number in range(60)]
    asked = [rng.choice([*keys, b"none"]) for _ in range(200)]
    orders, answers = [], []
    for at_once in (False, True):
        store, data = opened(4)
        for number, key in enumerate(keys):
            expires_ms = 1 << 47 if number % 3 else 0
            entry = pack(
                slot=0, term=1 << 31, seq=1, expires_ms=expires_ms, written_s=9, flags=0,
                meta=b"", value=key,
            )  # fmt: skip
            store.put(data[int(key) % 4], key, entry)
        store.set_evictable(3, False)
        pairs = [(data[0 if key == b"none" else int(key) % 4], key) for key in asked]
        if at_once:
            found, dated = store.policy.touch_many([each for each, _ in pairs], asked)
            assert dated == [
                (index, 1 << 47)
                for index, key in enumerate(asked)
                if key != b"none" and int(key) % 3
            ]
        else:
            found = [store.touch(*pair) for pair in pairs]
        answers.append(found)
        store.set_evictable(3, True)
        orders.append(evicted_in_order(store))
    assert answers[0] == answers[1]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("byte", range(4))
def test_many_touches_at_once_find_slots_of_any_size(byte: int):
    store, (data,) = opened(1)
    slot = 1 << 8 * byte
    data.entries[b"k"] = pack(
        slot=slot, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=b"", value=b"v"
    )
    store.policy.ticks = array("Q", [0]) * (slot + 1)
    store.policy.touch_many([data], [b"k"])
    assert store.policy.ticks[slot] > LOADED_TICKS
    assert not any(store.policy.ticks[1 << 8 * lower] for lower in range(byte))


@pytest.mark.parametrize("evictable", [True, False])
@pytest.mark.parametrize("byte", range(6))
def test_many_touches_at_once_see_an_expiry_in_any_of_its_bytes(byte: int, evictable: bool):
    store, (data,) = opened(1, evictable=evictable)
    expires_ms = 1 << 8 * byte
    store.put(data, b"k", pack(
        slot=0, term=(1 << 32) - 1, seq=1, expires_ms=expires_ms, written_s=(1 << 32) - 1, flags=0, meta=b"",
        value=b"v",
    ))  # fmt: skip
    assert store.policy.touch_many([data], [b"k"])[1] == [(0, expires_ms)]


def test_many_touches_at_once_take_no_neighbouring_field_for_an_expiry():
    store, (data,) = opened(1)
    store.put(data, b"k", pack(
        slot=0, term=(1 << 32) - 1, seq=(1 << 48) - 1, expires_ms=0, written_s=(1 << 32) - 1, flags=0, meta=b"",
        value=b"v",
    ))  # fmt: skip
    assert store.policy.touch_many([data], [b"k"])[1] == []
