"""What the advisor says, against full replays by the real store; and what it takes."""

from __future__ import annotations

import bisect
import gc
import itertools
import random
import tracemalloc

import pytest

from aux.advice.advisor import MOST_SHARE, WINDOW_S, sizes, steepness
from aux.advice.model import LEAST_KEYS
from bench.advice import AdvisedReplay, Requests
from bench.traces import replay
from ringmaster.config.eviction import POLICIES
from ringmaster.protocol.entry import pack
from ringmaster.protocol.hashing import partition_of

MIB = 2**20


def zipf(count: int, keys: int, exponent: float, seed: int) -> Requests:
    rng = random.Random(seed)
    sums = list(itertools.accumulate(1 / (rank + 1) ** exponent for rank in range(keys)))
    return [(b"%d" % bisect.bisect(sums, rng.random() * sums[-1]), 1) for _ in range(count)]


def loop(count: int, keys: int) -> Requests:
    return [(b"%d" % (number % keys), 1) for number in range(count)]


def sized(count: int, keys: int, seed: int) -> Requests:
    """Zipf, of entries between 20 bytes and 20 kB."""
    rng = random.Random(seed)
    sizes_of: dict[bytes, int] = {}
    return [
        (key, sizes_of.setdefault(key, int(min(20_000, 20 + rng.lognormvariate(6, 1.2)))))
        for key, _ in zipf(count, keys, 0.9, seed)
    ]


def assert_right(requests: Requests, capacity: int, policy: str, *, by_entries: bool) -> None:
    """Every prospect is within 2 points of a full replay, or three of the standard errors it states, where those are more."""
    advised = AdvisedReplay(capacity, by_entries=by_entries, policy=policy)
    found = advised.run(requests)
    said = {(each.policy, each.memory) for each in found}
    assert {(policy, memory) for memory in sizes(3)} | {(each, 1.0) for each in POLICIES} <= said
    for each in found:
        assert each.is_enough
        full = replay(
            requests, int(capacity * each.memory), by_entries=by_entries, partitions=1024, policy=each.policy
        ).object_percent  # fmt: skip
        assert 100 * each.ratio == pytest.approx(full, abs=max(2.0, 300 * each.error)), (
            each.policy,
            each.memory,
        )


@pytest.mark.thorough
@pytest.mark.parametrize("policy", ["adaptive", "lru"])
def test_the_advice_is_within_two_points_where_popularity_is_a_power_law(policy: str) -> None:
    assert_right(zipf(40_000, 10_000, 0.9, 1), 1_000, policy, by_entries=True)


@pytest.mark.thorough
def test_the_advice_is_within_two_points_where_entries_differ_in_size() -> None:
    assert_right(sized(40_000, 10_000, 2), MIB, "adaptive", by_entries=False)


@pytest.mark.thorough
def test_the_advice_is_within_its_error_beside_the_cliff_of_a_loop() -> None:
    assert_right(loop(60_000, 2_500), 1_000, "adaptive", by_entries=True)


def test_a_model_of_few_keys_says_so() -> None:
    advised = AdvisedReplay(LEAST_KEYS // 5, by_entries=True, policy="lru")
    found = advised.run(zipf(5_000, 20_000, 0.9, 1))
    assert found
    assert not any(each.is_enough for each in found)


@pytest.mark.parametrize("policy", ["adaptive", "lru", "wtinylfu"])
def test_all_of_it_takes_less_than_a_mebibyte(policy: str) -> None:
    advised = AdvisedReplay(2 * MIB, by_entries=False, policy=policy)
    requests = sized(20_000, 10_000, 2)
    requests = [*requests, *((b"s%d" % number, 100) for number in range(5_000))]
    gc.collect()
    advised.run(requests[:1])
    advised.advisor.models = []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        advised.run(requests)
        store = advised.store
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        advised.advisor = None  # type: ignore[assignment]
        gc.collect()
        taken = held - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert store.entries > 1_000
    assert before < held
    assert 100_000 < taken < MIB


def test_it_takes_one_per_cent_of_a_processor_and_samples_fewer_keys_instead() -> None:
    clock = itertools.count(0.0, 0.0005)  # half a millisecond for each access to the models
    advised = AdvisedReplay(1_500, by_entries=True, policy="adaptive", timer=lambda: next(clock))
    requests = zipf(40_000, 20_000, 0.9, 1)  # 500 requests are a second
    advised.run(requests)
    advisor = advised.advisor
    before, began = advisor.spent_s, advised.now
    advised.run(requests)
    assert advisor.spent_s - before <= 1.5 * MOST_SHARE * (advised.now - began)
    assert advisor.sampled_reads > 0


def test_what_is_deleted_or_expired_is_in_no_model_any_more() -> None:
    advised = AdvisedReplay(1_000, by_entries=True, policy="lru")
    advisor, store = advised.advisor, advised.store
    home = advised.data[partition_of(b"k", len(advised.data))]

    def held() -> int:
        return sum(model.miniature.entries for model in advisor.models)

    def write(expires_ms: int) -> None:
        entry = pack(
            slot=0, term=1, seq=1, expires_ms=expires_ms, written_s=0, flags=0, meta=b"", value=b""
        )
        store.put(home, b"k", entry)
        advisor.wrote(home, b"k", entry)

    home.sampled = True
    for model in advisor.models:
        model.miniature.share_bytes = 10
    advisor._highest = 1 << 24
    write(0)
    assert held() > 0
    advisor.wrote(home, b"k", None)
    assert held() == 0
    write(0)
    advisor.missed(home, b"k", b"an entry whose tag was invalidated")
    assert held() == 0
    write(1)
    advisor._now_ms = lambda: 2
    advisor.read(home, b"k", None)
    assert held() == 0


def test_beside_a_cliff_the_error_is_as_large_as_the_cliff_is_steep() -> None:
    assert steepness([(0.5, 0.2), (1.0, 0.2), (2.0, 0.9)], 1.0) == pytest.approx(1.01, abs=0.01)
    assert steepness([(0.5, 0.2), (1.0, 0.2), (2.0, 0.9)], 0.5) == 0.0
    assert steepness([(1.0, 0.2)], 1.0) == 0.0


def test_an_answer_is_about_the_last_windows_only() -> None:
    advised = AdvisedReplay(500, by_entries=True, policy="lru")
    advised.run(loop(20_000, 700))
    assert advised.advisor.window_s == pytest.approx(40, abs=1)
    for _ in range(2):
        advised.now += WINDOW_S
        advised.advisor.tick(advised.data, 3)
    assert advised.advisor.counted() == (0, 0)
    found = advised.run(loop(20_000, 100))
    now = next(each for each in found if each.memory == 1 and each.policy == "lru")
    assert now.ratio > 0.98


def test_a_change_of_nodes_keeps_the_models_that_are_still_asked_for() -> None:
    advised = AdvisedReplay(500, by_entries=True, policy="lru")
    before = {(model.policy, model.memory): model for model in advised.advisor.models}
    advised.advisor.tick(advised.data, 4)
    after = {(model.policy, model.memory): model for model in advised.advisor.models}
    assert before.keys() & after.keys() >= {("lru", 0.5), ("lru", 1.0), ("adaptive", 1.0)}
    assert all(after[key] is before[key] for key in before.keys() & after.keys())
    assert ("lru", 0.75) in after
