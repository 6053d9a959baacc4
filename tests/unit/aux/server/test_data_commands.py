"""The `RM.` commands of masters: replies, conditions, waiting, and what a node says of what it does not serve."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aux.server.bulk_commands import MAX_REPLY_BYTES
from aux.storage.listing import IDLE_S, MOST_SURVEYS
from ringmaster.protocol import entry as entries
from ringmaster.protocol.canary import CANARY_PREFIX
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.listing import LIST_STEP
from ringmaster.protocol.resp import Reply
from ringmaster.protocol.write_options import ANY, Status, WriteOptions, encode_options
from tests.fakes.nodes import TestNode, World, row

PT = b"0.1"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        yield world


@pytest.fixture
async def node() -> AsyncIterator[TestNode]:
    """The only copy, so that every write is answered at once."""
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        yield world["a"]


def with_options(**options: object) -> bytes:
    return encode_options(WriteOptions(**options))  # type: ignore[arg-type]


async def test_get_and_head_show_the_entry_and_only_get_counts(node: TestNode) -> None:
    meta = pack_meta(Meta("text/plain"))
    node.ask(b"RM.SET", PT, b"k", b"value", with_options(meta=meta, flags=0))
    entry = node.ask(b"RM.GET", PT, b"k").reply
    assert entries.meta_of(entry).content_type == "text/plain"
    head, size = node.ask(b"RM.HEAD", PT, b"k").reply
    assert (entry, size) == (head + b"value", 5)
    assert node.ask(b"RM.GET", PT, b"none").raw == b"$-1\r\n"
    assert node.ask(b"RM.HEAD", PT, b"none").raw == b"$-1\r\n"
    assert (node.node.counters.hits, node.node.counters.misses) == (1, 1)


async def test_many_are_read_at_once_up_to_a_full_reply(node: TestNode) -> None:
    value = bytes(4 * 2**20)
    for key in (b"a", b"b", b"c", b"d", b"e"):
        node.put(key, value)
    replies = node.ask(
        b"RM.MGET",
        PT,
        b"none",
        b"9.9",
        b"a",
        *[word for key in b"abcde" for word in (PT, bytes([key]))],
    ).reply
    assert replies[0] is None
    assert str(replies[1]).startswith("MOVED")
    sizes = [len(each) for each in replies[2:] if isinstance(each, bytes)]
    assert sum(sizes) <= MAX_REPLY_BYTES + len(value) + 100
    assert str(replies[-1]).startswith("AGAIN")


async def test_a_write_reply_has_status_version_and_expiry(node: TestNode) -> None:
    now_ms = node.node.clock.now_ms()
    assert node.put(b"k", b"1").reply == [Status.CREATED, 1, 1, 0]
    ttl = with_options(ttl_ms=1000)
    assert node.ask(b"RM.SET", PT, b"k", b"2", ttl).reply == [Status.REPLACED, 1, 2, now_ms + 1000]
    assert node.ask(b"RM.TOUCH", PT, b"k").reply == [Status.REPLACED, 1, 2, 0]
    assert node.ask(b"RM.INCR", PT, b"k", b"40").reply == [Status.REPLACED, 1, 4, 0, 42]
    assert node.ask(b"RM.DEL", PT, b"k").reply == [Status.REPLACED, 1, 5, 0]
    assert node.ask(b"RM.DEL", PT, b"k").reply == [Status.ABSENT, 1, 6, 0]
    assert node.ask(b"RM.TOUCH", PT, b"k").reply == [Status.ABSENT, 0, 0, 0]


async def test_conditions_are_those_of_the_newest_entry(node: TestNode) -> None:
    create = with_options(if_none_match=ANY)
    assert node.ask(b"RM.SET", PT, b"k", b"1", create).reply[0] == Status.CREATED
    assert node.ask(b"RM.SET", PT, b"k", b"2", create).reply == [Status.CONDITION_FAILED, 1, 1, 0]
    swap = with_options(if_match=((1, 1),))
    assert node.ask(b"RM.SET", PT, b"k", b"2", swap).reply == [Status.REPLACED, 1, 2, 0]
    assert node.ask(b"RM.DEL", PT, b"k", swap).reply == [Status.CONDITION_FAILED, 1, 2, 0]
    assert node.get(b"k") == b"2"


async def test_an_expired_entry_is_absent_to_reads_and_writes(node: TestNode) -> None:
    node.ask(b"RM.SET", PT, b"k", b"1", with_options(ttl_ms=1000))
    node.clock.now += 1.0
    assert node.get(b"k") is None
    assert node.ask(b"RM.HEAD", PT, b"k").reply is None
    created = node.ask(b"RM.SET", PT, b"k", b"2", with_options(if_none_match=ANY)).reply
    assert created == [Status.CREATED, 1, 3, 0]  # its removal was sequenced before it
    assert node.node.counters.expirations == 1


async def test_within_its_grace_an_expired_entry_is_read(node: TestNode) -> None:
    meta = pack_meta(Meta(swr_ms=5000))
    node.ask(b"RM.SET", PT, b"k", b"1", with_options(ttl_ms=1000, meta=meta))
    node.clock.now += 3.0
    assert node.get(b"k") == b"1"
    node.clock.now += 3.0
    assert node.get(b"k") is None


async def test_a_refusal_that_rests_on_a_pending_write_waits_for_it(world: World) -> None:
    world.wire("a", "b").held = True
    node = world["a"]
    node.put(b"k", b"1")
    refused = node.ask(b"RM.SET", PT, b"k", b"2", with_options(if_none_match=ANY))
    not_there = node.ask(b"RM.TOUCH", PT, b"other")
    assert refused.raw is None
    assert not_there.reply[0] == Status.ABSENT
    world.wire("a", "b").held = False
    await world.settle()
    assert refused.reply[0] == Status.CONDITION_FAILED


async def test_absent_because_of_an_eviction_waits_until_every_copy_has_evicted(
    world: World,
) -> None:
    node = world["a"]
    node.put(b"k", b"1")
    await world.settle()
    world.wire("a", "b").held = True
    node.node.roles.primaries[0].evict(b"k")
    assert node.get(b"k") is None
    touched = node.ask(b"RM.TOUCH", PT, b"k")
    counted = node.ask(b"RM.INCR", PT, b"k", b"5")
    assert (touched.raw, counted.raw) == (None, None)
    world.wire("a", "b").held = False
    await world.settle()
    assert (touched.reply[0], counted.reply[-1]) == (Status.ABSENT, 5)
    assert world["b"].holds() == {b"k": b"5"}


async def test_a_touch_that_is_under_way_keeps_the_key_from_being_swept(world: World) -> None:
    node = world["a"]
    node.ask(b"RM.SET", PT, b"k", b"1", with_options(ttl_ms=1000))
    await world.settle()
    world.wire("a", "b").held = True
    touched = node.ask(b"RM.TOUCH", PT, b"k")
    node.clock.now += 20.0
    for _ in range(5):
        node.node.housekeeping.tick()
    world.wire("a", "b").held = False
    await world.settle()
    assert touched.reply[0] == Status.REPLACED
    assert node.get(b"k") == world["b"].holds()[b"k"] == b"1"


@pytest.mark.parametrize(
    ("write", "left"),
    [
        ((b"RM.SET", PT, b"k", b"2"), b"2"),
        ((b"RM.SET", PT, b"k", b"2", with_options(if_match=((1, 1),))), b"2"),
        ((b"RM.TOUCH", PT, b"k"), b"1"),
        ((b"RM.DEL", PT, b"k"), None),
    ],
)
async def test_a_key_that_expires_under_a_write_is_not_absent_before_that_is_committed(
    world: World, write: tuple[bytes, ...], left: bytes | None
) -> None:
    """The write says that it found the key: nobody may have found it absent before."""
    node = world["a"]
    node.ask(b"RM.SET", PT, b"k", b"1", with_options(ttl_ms=1000))
    await world.settle()
    world.wire("a", "b").held = True
    written = node.ask(*write)
    assert node.get(b"k") == b"1"
    node.clock.now += 1.0
    misses = node.node.counters.misses
    assert code(node.ask(b"RM.GET", PT, b"k").reply) == "AGAIN"
    assert code(node.ask(b"RM.HEAD", PT, b"k").reply) == "AGAIN"
    assert node.ask(b"RM.LIST", PT, b"", b"9", b"").reply == [b"", b"1", b"k"]
    assert node.node.counters.misses == misses
    world.wire("a", "b").held = False
    await world.settle()
    assert written.reply[0] == Status.REPLACED
    assert node.get(b"k") == left


async def test_a_key_is_absent_at_once_if_a_write_found_it_expired(world: World) -> None:
    node = world["a"]
    node.ask(b"RM.SET", PT, b"k", b"1", with_options(ttl_ms=1000))
    await world.settle()
    world.wire("a", "b").held = True
    node.clock.now += 1.0
    written = node.put(b"k", b"2")
    assert node.get(b"k") is None
    world.wire("a", "b").held = False
    await world.settle()
    assert written.reply[0] == Status.CREATED
    assert node.get(b"k") == b"2"


async def test_deleting_an_absent_key_reaches_every_copy(world: World) -> None:
    deleted = world["a"].ask(b"RM.DEL", PT, b"never there")
    assert deleted.raw is None
    await world.settle()
    assert deleted.reply[0] == Status.ABSENT
    assert world["b"].node.roles.replicas[0].seq == 1


async def test_keys_are_listed_by_prefix_and_position(node: TestNode) -> None:
    """With the partition's size; `tests/unit/aux/storage/test_listing.py` has what is in a page."""
    for number in range(5):
        node.put(b"p%d" % number, b"1")
    node.put(b"q", b"1")
    position, size, *keys = node.ask(b"RM.LIST", PT, b"", b"3", b"p").reply
    assert size == b"6"
    assert node.ask(b"RM.LIST", PT, position, b"3", b"p").reply[:2] == [b"", b"6"]
    keys += node.ask(b"RM.LIST", PT, position, b"3", b"p").reply[2:]
    assert sorted(keys) == [b"p%d" % number for number in range(5)]
    assert node.ask(b"RM.LIST", PT, b"", b"9", b"x").reply == [b"", b"6"]


async def test_an_expired_key_is_not_listed(node: TestNode) -> None:
    node.ask(b"RM.SET", PT, b"k", b"1", with_options(ttl_ms=1000))
    node.clock.now += 1.0
    assert node.ask(b"RM.LIST", PT, b"", b"9", b"").reply == [b"", b"1"]


async def test_the_surveys_of_large_partitions_end_when_nobody_asks_any_more(
    node: TestNode,
) -> None:
    for number in range(LIST_STEP + 1):
        node.put(b"%d" % number, b"1")
    for _ in range(MOST_SURVEYS):
        assert len(node.ask(b"RM.LIST", PT, b"", b"9", b"").reply) == 2
    assert code(node.ask(b"RM.LIST", PT, b"", b"9", b"").reply) == "AGAIN"
    node.clock.now += IDLE_S + 1
    node.node.housekeeping.tick()
    assert not node.node.listings.surveys


def code(reply: Reply) -> str:
    return str(reply).split(" ", 1)[0]


async def test_what_is_not_served_is_moved_or_will_be_served_in_a_moment(world: World) -> None:
    node = world["a"]
    assert code(node.ask(b"RM.GET", b"0.9", b"k").reply) == "MOVED"
    assert code(world["b"].ask(b"RM.GET", PT, b"k").reply) == "MOVED"
    world["b"].node.roles.adopt(world.view(2, row("b", "a", term=2, awaits="a")))
    for command in (b"RM.GET", b"RM.HEAD", b"RM.DEL", b"RM.TOUCH"):
        assert code(world["b"].ask(command, b"0.2", b"k").reply) == "WAIT"
    world.adopt(world.view(2, row("b", "a", term=2, awaits="a")))
    assert code(node.ask(b"RM.SET", PT, b"k", b"1").reply) == "MOVED"


async def test_nothing_is_said_to_have_moved_once_it_was_sequenced(world: World) -> None:
    world.wire("a", "b").held = True
    written = world["a"].put(b"k", b"1")
    world["a"].node.roles.adopt(world.view(2, row("b", term=2), without="a"))
    assert code(written.reply) == "UNKNOWN"


async def test_an_entry_that_could_never_fit_is_refused(node: TestNode) -> None:
    assert code(node.put(b"k", bytes(node.node.options.max_bytes // 8)).reply) == "TOOBIG"
    assert code(node.ask(b"SET", b"k", bytes(node.node.options.max_bytes // 8)).reply) == "TOOBIG"
    assert node.holds() == {}


async def test_an_overloaded_node_sheds_writes_and_reads_on(node: TestNode) -> None:
    node.put(b"k", b"1")
    node.node.housekeeping.overloaded = True
    for command in (
        (b"RM.SET", PT, b"k", b"2"),
        (b"RM.DEL", PT, b"k", b"\x90"),
        (b"SET", b"k", b"2"),
    ):
        assert code(node.ask(*command).reply) == "SHED"
    assert node.get(b"k") == b"1"


async def test_keys_of_the_self_audit_are_read_without_being_counted(node: TestNode) -> None:
    key, ttl = CANARY_PREFIX + b"m1/ab/1", with_options(ttl_ms=1000)
    assert node.ask(b"RM.GET", PT, key).raw == b"$-1\r\n"
    node.ask(b"RM.SET", PT, key, b"1", ttl)
    node.ask(b"RM.SET", PT, b"k", b"1", ttl)
    for _ in range(2000):
        assert node.ask(b"RM.GET", PT, key).reply.endswith(b"1")
    # It is the same entry that any other key would have.
    assert len(node.ask(b"RM.GET", PT, key).reply) == len(node.ask(b"RM.GET", PT, b"k").reply)
    counters = node.node.counters
    assert (counters.hits, counters.misses) == (1, 0)
    assert [name for name, _ in node.node.grants.reads.top(9)] in ([], [b"k"])
    node.clock.now += 2
    assert node.ask(b"RM.GET", PT, key).raw == b"$-1\r\n"
    assert node.ask(b"RM.GET", b"9.9", key).raw.startswith(b"-MOVED")
    assert (counters.hits, counters.misses) == (1, 0)


async def test_a_listing_shows_keys_of_the_self_audit_only_if_it_asks_for_them(
    node: TestNode,
) -> None:
    keys = [CANARY_PREFIX + b"m1/ab/%d" % number for number in range(3)]
    for key in [*keys, b"~k", b"k"]:
        node.put(key, b"1")

    def listed(prefix: bytes) -> set[bytes]:
        _, _, *found = node.ask(b"RM.LIST", PT, b"", 100, prefix).reply
        return set(found)

    assert listed(b"") == {b"~k", b"k"}
    assert listed(b"~") == {b"~k"}
    assert listed(b"~ringmaster/") == set()
    assert listed(CANARY_PREFIX) == set(keys)
    assert listed(keys[0]) == {keys[0]}
