"""What every policy keeps to, and what each is good at; hit ratios by the real store."""

import random
from collections.abc import Iterator

import pytest

from aux.storage.memory_accounting import ProcessAccounting
from aux.storage.partition_data import PartitionData
from aux.storage.store import Store
from bench.traces import replay
from ringmaster.config.eviction import DEFAULT_POLICY, POLICIES
from ringmaster.protocol.entry import SLOT_SIZE, header, pack

Requests = list[tuple[bytes, int]]


def entry_of(value: bytes = b"v") -> bytes:
    return pack(slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=b"", value=value)


def hits(requests: Requests, capacity: int, policy: str, *, by_entries: bool = True) -> float:
    return replay(
        requests, capacity, by_entries=by_entries, partitions=64, policy=policy
    ).object_percent


def recency_friendly(count: int) -> Iterator[tuple[bytes, int]]:
    """Reuse at distances that are short and ever rarer: nothing beats LRU by much."""
    rng = random.Random(3)
    stack: list[int] = []
    for number in range(count):
        if rng.random() < 0.2 or not stack:
            key = number
        else:
            key = stack.pop(-1 - min(len(stack) - 1, int(rng.expovariate(1 / 300))))
        stack.append(key)
        del stack[:-6_000]
        yield b"%d" % key, 1


def popular(count: int, keys: int = 20_000, seed: int = 4) -> list[int]:
    rng = random.Random(seed)
    return [int(rng.paretovariate(0.5)) % keys for _ in range(count)]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_keeps_the_budget_and_loses_no_slot_while_it_is_changed_again_and_again(
    policy: str,
):
    rng = random.Random(policy)
    store = Store(60_000, 8, accounting=ProcessAccounting(pymalloc=False), policy=policy)
    data = [store.open(number, evictable=number % 3 > 0) for number in range(8)]
    model: dict[tuple[int, bytes], bytes] = {}
    for step in range(6_000):
        home, key = rng.choice(data), b"%d" % rng.randrange(400)
        roll = rng.random()
        if roll < 0.45:
            entry = entry_of(b"x" * rng.choice((0, 10, 300, 3_000)))
            store.put(home, key, entry)
            model[home.number, key] = entry
        elif roll < 0.85:
            found = store.touch(home, key)
            kept = model.get((home.number, key))
            assert (found and found[SLOT_SIZE:]) == (kept and kept[SLOT_SIZE:])
        elif roll < 0.9:
            store.remove(home, key)
            model.pop((home.number, key), None)
        elif roll < 0.91:
            store.set_evictable(home.number, not home.evictable)
        elif roll < 0.92:
            store.drop(home.number)
            model = {place: one for place, one in model.items() if place[0] != home.number}
            data[home.number] = store.open(home.number, evictable=rng.random() < 0.7)
        elif roll < 0.925:
            store.set_policy(rng.choice(POLICIES))
        among = None if step % 5 else frozenset(rng.sample(range(8), 5))
        while store.over_bytes() and (victim := store.victim(among)):
            one, key, entry = victim
            assert one.evictable
            assert among is None or one.number in among
            assert store.victim(among) == victim, "it stays until it is used or removed"
            assert store.remove(one, key) == entry
            del model[one.number, key]
        assert among is not None or not store.over_bytes()
        assert store.entries == len(model)
    slots = {header(entry).slot for one in data for entry in one.entries.values()}
    assert len(slots) == len(model), "two entries share a slot"
    store.set_policy(policy)
    for one in data:
        store.set_evictable(one.number, True)
    while victim := store.victim():
        store.remove(victim[0], victim[1])
    assert store.entries == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_a_change_of_policy_keeps_all_entries_and_each_can_be_evicted_after_it(policy: str):
    for before in POLICIES:
        store = Store(1 << 30, 4, policy=before)
        data = [store.open(number, evictable=number > 0) for number in range(4)]
        for number in range(300):
            store.put(data[number % 4], b"%d" % number, entry_of())
            store.touch(data[number % 3], b"%d" % (number // 2))
        kept = [dict(one.entries) for one in data]
        store.set_policy(policy)
        assert store.policy.name == policy
        assert [dict(one.entries) for one in data] == kept
        gone = 0
        while victim := store.victim():
            store.remove(victim[0], victim[1])
            gone += 1
        assert gone == 225


@pytest.mark.parametrize("policy", POLICIES)
def test_many_removals_are_single_removals(policy: str):
    def filled() -> tuple[Store, list[PartitionData]]:
        store = Store(40_000, 2, accounting=ProcessAccounting(pymalloc=False), policy=policy)
        data = [store.open(number, evictable=number == 0) for number in range(2)]
        for number in range(120):
            store.put(data[number % 2], b"%d" % number, entry_of(b"x" * number))
            store.touch(data[0], b"%d" % (number // 3))
        return store, data

    for removed in ([b"0", b"7", b"8", b"none", b"8", b"118"], [b"%d" % n for n in range(120)]):
        (one, single), (many, whole) = filled(), filled()
        for left, right in zip(single, whole, strict=True):
            gone = [key for key in removed if one.remove(left, key) is not None]
            assert many.remove_many(right, removed) == gone
            assert (left.entries, left.bytes) == (right.entries, right.bytes)
        assert (one.entries, one.bytes, one.over_bytes()) == (
            many.entries, many.bytes, many.over_bytes(),
        )  # fmt: skip
        assert one.policy.ticks == many.policy.ticks
        for number in range(30):
            one.put(single[0], b"%d" % number, entry_of())
            many.put(whole[0], b"%d" % number, entry_of())
        assert single[0].entries == whole[0].entries
        assert one.victim() is not None
        assert [one.victim()[1:]] == [many.victim()[1:]]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_replica_evicts_nothing_and_joins_when_it_is_promoted(policy: str):
    store = Store(1 << 30, 2, policy=policy)
    data = [store.open(number, evictable=False) for number in range(2)]
    for number in range(100):
        store.put(data[number % 2], b"%d" % number, entry_of())
    assert store.victim() is None
    store.set_evictable(1, evictable=True)
    found = set()
    while victim := store.victim():
        assert victim[0] is data[1]
        found.add(victim[1])
        store.remove(victim[0], victim[1])
    assert len(found) == 50
    store.set_evictable(0, evictable=True)
    store.set_evictable(0, evictable=False)
    assert store.victim() is None


@pytest.mark.parametrize("policy", POLICIES)
def test_many_touches_at_once_are_single_touches(policy: str):
    store = Store(1 << 30, 2, policy=policy)
    data = [store.open(number, evictable=number == 0) for number in range(2)]
    dated = pack(
        slot=0, term=1, seq=1, expires_ms=77, written_s=0, flags=0, meta=b"", value=b"dated"
    )
    store.put(data[0], b"a", entry_of())
    store.put(data[1], b"b", dated)
    keys = [b"a", b"b", b"c"]
    datas = [data[0], data[1], data[0]]
    found, expiring = store.policy.touch_many(datas, keys)
    assert found == [store.touch(*pair) for pair in zip(datas, keys, strict=True)]
    assert expiring == [(1, 77)]


@pytest.mark.parametrize("policy", ["sieve", "s3fifo", "wtinylfu", "adaptive"])
def test_a_scan_does_not_drive_out_what_is_popular(policy: str):
    requests: Requests = []
    for number, key in enumerate(popular(30_000)):
        requests.append((b"%d" % key, 1))
        if number % 3_000 > 2_000:
            requests.append((b"scan%d" % number, 1))
    assert hits(requests, 500, policy) > hits(requests, 500, "lru") + 1


def test_what_was_popular_while_there_was_much_room_is_kept_when_there_is_none():
    store = Store(400_000, 1, accounting=ProcessAccounting(pymalloc=False))
    data = store.open(0, evictable=True)
    popular_keys = [b"p%d" % number for number in range(200)]
    for key in popular_keys:
        store.put(data, key, entry_of())
    for _ in range(40):
        for key in popular_keys:
            store.touch(data, key)
    for number in range(6_000):
        store.put(data, b"once%d" % number, entry_of())
        while store.over_bytes():
            victim = store.victim()
            assert victim is not None
            store.remove(victim[0], victim[1])
    assert len(data.entries) < 3_000
    assert sum(key in data.entries for key in popular_keys) > 190


@pytest.mark.parametrize("policy", ["wtinylfu", "adaptive"])
def test_a_loop_a_little_larger_than_the_cache_hits_where_lru_never_does(policy: str):
    requests = [(b"%d" % (number % 1_100), 1) for number in range(33_000)]
    assert hits(requests, 1_000, "lru") == 0
    assert hits(requests, 1_000, policy) > 40


def test_the_default_is_hardly_below_lru_where_recency_is_all():
    requests = list(recency_friendly(20_000))
    for capacity in (300, 1_000):
        assert hits(requests, capacity, DEFAULT_POLICY) >= hits(requests, capacity, "lru") - 0.5


def test_the_default_keeps_many_small_entries_rather_than_few_large_ones():
    sizes: dict[int, int] = {}
    rng = random.Random(8)
    requests = [
        (b"%d" % key, sizes.setdefault(key, int(min(1e5, rng.lognormvariate(6, 1.5))) + 1))
        for key in popular(30_000)
    ]
    better = hits(requests, 50_000, DEFAULT_POLICY, by_entries=False)
    assert better > hits(requests, 50_000, "lru", by_entries=False) + 5


def test_the_default_split_over_four_nodes_hits_about_as_often():
    requests = [(b"%d" % key, 1) for key in popular(40_000)]
    one, four = (
        replay(requests, 1_000, by_entries=True, partitions=1024, nodes=nodes).object_percent
        for nodes in (1, 4)
    )
    assert four >= one - 0.5


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="no such eviction policy"):
        Store(1 << 20, 8, policy="fifo")
