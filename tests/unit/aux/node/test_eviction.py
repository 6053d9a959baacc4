"""Evictions and expiries: begun by primaries alone, bounded, followed by the copies (R8)."""

from __future__ import annotations

import msgspec
import pytest

from aux.node.eviction import MAX_SKIPPED
from aux.storage.store import Store
from ringmaster.cluster.runtime_settings import (
    RuntimeSettings,
    SettingsFollower,
    decode_settings_report,
)
from ringmaster.config.eviction import POLICIES
from ringmaster.config.sources import Started
from ringmaster.protocol.canary import CANARY_PREFIX, MOST_SPARED
from ringmaster.protocol.write_options import WriteOptions, encode_options
from tests.fakes.nodes import World, row

MIB = 2**20
PT = b"0.1"


async def test_by_lru_a_primary_over_its_share_evicts_the_least_recently_used() -> None:
    async with World("a", max_bytes=8 * MIB) as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        node.node.store.set_policy("lru")
        for number in range(20):
            node.put(b"%d" % number, bytes(MIB // 2))
            assert node.get(b"0") is not None
            node.node.eviction.trim()
        assert node.node.store.over_bytes() == 0
        assert node.get(b"0") is not None
        assert node.get(b"1") is None
        assert node.get(b"19") is not None
        assert node.node.counters.evictions > 0


async def test_a_node_follows_the_policy_of_the_view_and_keeps_its_entries() -> None:
    async with World("ab", max_bytes=8 * MIB) as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        node = world["a"]
        for number in range(30):
            node.put(b"%d" % number, b"v")
        await world.settle()
        for epoch, policy in enumerate(("lru", "sieve", "of-a-later-version", "adaptive"), 2):
            view = world.view(epoch, row("a", "b", term=1))
            world.adopt(msgspec.structs.replace(view, eviction=policy))
            known = "sieve" if epoch == 4 else policy
            assert {each.node.store.policy.name for each in (node, world["b"])} == {known}
            assert all(node.get(b"%d" % number) == b"v" for number in range(30))


async def test_copies_follow_the_evictions_of_their_primary() -> None:
    async with World("ab", max_bytes=8 * MIB) as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        node = world["a"]
        for number in range(20):
            node.put(b"%d" % number, bytes(MIB // 2))
            node.node.eviction.trim()
            await world.settle(ticks=False)
        await world.settle()
        assert 0 < len(node.holds()) < 20
        assert world["b"].holds() == node.holds()


async def test_a_copy_over_its_budget_has_its_primary_evict() -> None:
    """`b` has less memory: it says so with each acknowledgement, and evicts nothing by itself."""
    async with World("ab", max_bytes=64 * MIB) as world:
        world["b"].node.store.max_bytes = 4 * MIB
        world["b"].node.store.set_overhead(0)
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        for number in range(40):
            world["a"].put(b"%d" % number, bytes(MIB // 4))
            await world.settle()
        for _ in range(10):
            world["a"].put(b"last", b"1")
            await world.settle()
        assert world["b"].node.store.replica_over_bytes() == 0
        assert world["b"].holds() == world["a"].holds()
        assert world["b"].node.counters.evictions == 0


async def test_entries_that_are_being_written_are_passed_over_and_the_search_ends() -> None:
    async with World("ab", max_bytes=64 * MIB) as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        node = world["a"]
        for number in range(50):
            node.put(b"%d" % number, bytes(1000))
        await world.settle()
        world.wire("a", "b").held = True
        for number in range(50):
            node.put(b"%d" % number, bytes(1000))
        node.node.eviction._evict(10 * MIB, None)
        assert len(node.holds()) == 50
        assert MAX_SKIPPED < 10_000


async def test_one_excess_is_not_evicted_for_twice_before_the_copy_has_heard() -> None:
    async with World("ab", max_bytes=64 * MIB) as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        node = world["a"].node
        for number in range(100):
            world["a"].put(b"%d" % number, bytes(10_000))
        await world.settle()
        before = node.counters.evictions
        for _ in range(10):
            node.over_budget("b", 100_000)
        first = node.counters.evictions - before
        assert 4 <= first <= 6
        node.over_budget("c", 100_000)  # keeps nothing of ours
        assert node.counters.evictions - before == first


async def test_expired_entries_are_swept_while_nobody_asks_and_copies_follow() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        ttl = encode_options(WriteOptions(ttl_ms=1000))
        for number in range(100):
            world["a"].ask(b"RM.SET", PT, b"%d" % number, b"1", ttl)
        world["a"].put(b"stays", b"1")
        await world.settle()
        for _ in range(100):
            world["a"].clock.now += 0.3
            world["a"].node.housekeeping.tick()
        await world.settle()
        assert list(world["a"].holds()) == list(world["b"].holds()) == [b"stays"]
        assert world["a"].node.counters.expirations == 100


async def test_who_does_not_serve_sweeps_nothing() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        ttl = encode_options(WriteOptions(ttl_ms=1000))
        world["a"].ask(b"RM.SET", PT, b"k", b"1", ttl)
        await world.settle()
        world["a"].put(b"pending", b"1")
        world["a"].node.roles.adopt(world.view(2, row("b", "a", term=2, awaits="a")))
        world["a"].clock.now += 60.0
        for _ in range(50):
            world["a"].node.eviction.tick()
        assert b"k" in world["a"].holds()


def test_a_store_without_primaries_has_nothing_to_evict() -> None:
    assert Store(MIB, 1).victim() is None


CANARIES = [CANARY_PREFIX + b"m1/ab/%d" % number for number in range(20)]


@pytest.mark.parametrize("policy", POLICIES)
async def test_keys_of_the_self_audit_are_spared_by_every_policy(policy: str) -> None:
    async with World("a", max_bytes=4 * MIB) as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        node.node.store.set_policy(policy)
        for key in CANARIES:
            node.put(key, b"1")
        for number in range(3000):
            node.put(b"%d" % number, bytes(4000))
            node.node.eviction.trim()
            if number % 10 == 0:
                node.node.housekeeping.tick()
        assert node.node.counters.evictions > 1000
        assert node.node.store.over_bytes() == 0
        assert set(CANARIES) <= set(node.holds())


@pytest.mark.parametrize("policy", POLICIES)
async def test_they_are_spared_when_a_copy_is_over_its_budget(policy: str) -> None:
    async with World("ab", max_bytes=64 * MIB) as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        node = world["a"]
        node.node.store.set_policy(policy)
        for key in CANARIES:
            node.put(key, b"1")
        for number in range(300):
            node.put(b"%d" % number, bytes(10_000))
        await world.settle()
        node.node.eviction._evict(2 * MIB, frozenset([0]))
        await world.settle()
        assert node.node.counters.evictions > 100
        assert set(CANARIES) <= set(node.holds())
        assert set(CANARIES) <= set(world["b"].holds())


@pytest.mark.parametrize("policy", POLICIES)
async def test_who_writes_many_such_keys_does_not_fill_the_memory_with_them(policy: str) -> None:
    async with World("a", max_bytes=4 * MIB) as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        node.node.store.set_policy(policy)
        for number in range(3000):
            node.put(CANARY_PREFIX + b"%d" % number, bytes(4000))
            node.node.eviction.trim()
        assert node.node.store.over_bytes() == 0
        assert node.node.counters.evictions > 3000 - 1200 - MOST_SPARED


async def test_a_smaller_budget_is_evicted_down_to_a_bounded_number_at_a_time_and_a_larger_one_is_filled() -> (
    None
):
    async with World("a", max_bytes=64 * MIB) as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        store = node.node.store
        for number in range(30):
            node.put(b"%d" % number, bytes(MIB))
        assert store.entries == 30
        assert node.ask(b"RM.SET", PT, b"large", bytes(7 * MIB)).raw.startswith(b"*")
        store.resize(16 * MIB)
        world["a"].server.resized()
        node.node.eviction.trim()
        assert store.over_bytes() == 0
        assert 0 < store.bytes <= 16 * MIB
        assert node.ask(b"RM.SET", PT, b"large", bytes(7 * MIB)).raw.startswith(b"-TOOBIG")
        store.resize(64 * MIB)
        world["a"].server.resized()
        for number in range(30):
            node.put(b"%d" % number, bytes(MIB))
        assert store.entries >= 30


async def test_a_node_follows_the_settings_of_its_view_and_says_which() -> None:
    async with World("a", max_bytes=8 * MIB) as world:
        node = world["a"].node
        started = {"max_memory": Started(8 * MIB, "flag")}
        node.follow(SettingsFollower(started, {"max_memory": node.store.resize}))
        view = world.view(1, row("a", term=1))
        asked = RuntimeSettings(version=3, values={"max_memory": 200 * MIB, "later": 1})
        world.adopt(msgspec.structs.replace(view, settings=asked))
        assert node.store.max_bytes == 200 * MIB
        report = decode_settings_report(
            world["a"].ask(b"RM.SETTINGS").raw.split(b"\r\n", 1)[1].rstrip()
        )
        assert (report.version, report.started) == (3, started)
        world.adopt(world.view(2, row("a", term=1)))
        assert node.store.max_bytes == 8 * MIB
