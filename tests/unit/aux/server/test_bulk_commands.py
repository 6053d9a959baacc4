"""`RM.VALUES` says in one text what `RM.MGET` says in an array; where it cannot, it says the same."""

from __future__ import annotations

import pytest

from aux.server.bulk_commands import MAX_REPLY_BYTES
from ringmaster.errors import PeerError
from ringmaster.protocol import entry as entries
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.resp import Reply
from ringmaster.protocol.write_options import WriteOptions, encode_options
from tests.fakes.nodes import TestNode, World, row

HERE, THERE, UNHEARD_OF = b"0.1", b"1.1", b"5.9"


def filled() -> World:
    """Two partitions of one node, and entries of every kind in the first."""
    world = World("a", partitions=8)
    world.adopt(world.view(1, row("a", term=1), row("a", term=1)))
    node = world["a"]
    node.put(b"a", b'{"b": [1,\n 2]}')
    node.put(b"b", b'"x"')
    node.put(b"c", b"3", 1)
    node.put(b"empty", b"")
    node.put(b"nul", b"1\x002")
    with_options(node, b"bytes", flags=0)
    with_options(node, b"brief", ttl_ms=1000)
    with_options(node, b"lasting", ttl_ms=100_000)
    graced = pack_meta(Meta(swr_ms=5000))
    with_options(node, b"graced", ttl_ms=1000, meta=graced)
    node.clock.now += 2.0
    return world


def with_options(node: TestNode, key: bytes, **options: object) -> None:
    packed = encode_options(WriteOptions(**options))  # type: ignore[arg-type]
    node.ask(b"RM.SET", HERE, key, b"9", packed)


def taken_apart(reply: Reply, count: int) -> list[object]:
    """What a master makes of a reply to `RM.VALUES`."""
    if isinstance(reply, bytes):
        values = reply.split(b"\0")
        assert len(values) == count, "the master asks again by RM.MGET"
        return [value or None for value in values]
    assert isinstance(reply, list)
    return [answer_of(each) for each in reply]


def answer_of(reply: Reply) -> object:
    if isinstance(reply, bytes):
        return reply[entries.value_offset(reply) :]
    return str(reply) if isinstance(reply, PeerError) else reply


PAIRS = [
    ([(HERE, b"a"), (HERE, b"b"), (THERE, b"c")], True),
    ([(HERE, b"a"), (HERE, b"none"), (THERE, b"c"), (THERE, b"a")], True),
    ([(HERE, b"none")], True),
    ([(HERE, b"b")], True),
    ([(HERE, b"a"), (HERE, b"a"), (HERE, b"b"), (HERE, b"a")], True),
    ([(HERE, b"brief"), (HERE, b"lasting"), (HERE, b"a")], True),
    ([(HERE, b"graced"), (HERE, b"a")], False),
    ([(HERE, b"bytes"), (HERE, b"a"), (HERE, b"none")], False),
    ([(HERE, b"empty"), (HERE, b"none"), (HERE, b"a")], False),
    ([(HERE, b"empty")], False),
    ([(HERE, b"a"), (UNHEARD_OF, b"x"), (HERE, b"none"), (THERE, b"c")], False),
    ([(UNHEARD_OF, b"x")], False),
]


@pytest.mark.parametrize(("pairs", "bare"), PAIRS)
async def test_values_are_those_of_the_entries(
    pairs: list[tuple[bytes, bytes]], bare: bool
) -> None:
    found = []
    for command in (b"RM.MGET", b"RM.VALUES", b"RM.GET"):
        async with filled() as world:
            node = world["a"]
            args = [word for pair in pairs for word in pair]
            if command == b"RM.VALUES":
                tokens, keys = zip(*pairs, strict=True)
                args = [b"\n".join(tokens), b"\n".join(keys)]
            if command == b"RM.GET":
                reply = [node.ask(command, *pair).reply for pair in pairs]
            else:
                reply = node.ask(command, *args).reply
            assert isinstance(reply, bytes) is (bare and command == b"RM.VALUES")
            counters = node.node.counters
            order = [list(node.holds(number)) for number in (0, 1)]
            found.append((taken_apart(reply, len(pairs)), counters.hits, counters.misses, order))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("others", [[HERE], [HERE, UNHEARD_OF]])
async def test_a_key_that_expires_under_a_write_is_asked_for_again(others: list[bytes]) -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        node = world["a"]
        with_options(node, b"brief", ttl_ms=1000)
        node.put(b"k", b"1")
        await world.settle()
        world.wire("a", "b").held = True
        node.put(b"brief", b"2")
        node.clock.now += 1.0
        tokens, keys = [*others[1:], HERE, HERE], [*[b"x"] * len(others[1:]), b"brief", b"k"]
        for command in (
            (b"RM.MGET", *[word for pair in zip(tokens, keys, strict=True) for word in pair]),
            (b"RM.VALUES", b"\n".join(tokens), b"\n".join(keys)),
        ):
            *_, brief, k = node.ask(*command).reply
            assert str(brief).startswith("AGAIN")
            assert answer_of(k) == b"1"
        assert node.node.counters.misses == 0
        world.wire("a", "b").held = False
        await world.settle()
        assert node.ask(b"RM.VALUES", HERE, b"brief").reply == b"2"


async def test_an_entry_from_a_snapshot_is_as_bare_as_others() -> None:
    async with filled() as world:
        store = world["a"].node.store
        data = store.get(0)
        assert data is not None
        flags = entries.JSON | entries.RESTORED
        restored = entries.pack(
            slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=flags, meta=b"", value=b"7"
        )
        store.put(data, b"old", restored)
        asked = world["a"].ask(b"RM.VALUES", HERE + b"\n" + HERE, b"old\nb")
        assert asked.raw == b'$5\r\n7\x00"x"\r\n'


async def test_a_value_that_is_no_json_shows_by_the_number_of_values() -> None:
    async with filled() as world:
        reply = world["a"].ask(b"RM.VALUES", b"\n".join([HERE] * 3), b"a\nnul\nb").reply
        assert isinstance(reply, bytes)
        assert len(reply.split(b"\0")) == 4


async def test_many_large_values_come_one_by_one_until_the_reply_is_full() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        keys = [b"%d" % number for number in range(5)]
        for key in keys:
            node.put(key, b"1" * (MAX_REPLY_BYTES // 4))
        tokens = [HERE] * len(keys)
        four = node.ask(b"RM.VALUES", b"\n".join(tokens[:3]), b"\n".join(keys[:3])).reply
        assert isinstance(four, bytes)
        reply = node.ask(b"RM.VALUES", b"\n".join(tokens), b"\n".join(keys)).reply
        pairs = [word for key in keys for word in (HERE, key)]
        again = node.ask(b"RM.MGET", *pairs).reply
        assert taken_apart(reply, 5) == taken_apart(again, 5)
        assert str(reply[-1]).startswith("AGAIN")


@pytest.mark.parametrize(
    "args",
    [
        (),
        (HERE,),
        (HERE, b"a", b"more"),
        (HERE + b"\n" + HERE, b"a"),
        (HERE, b"a\nb"),
        (HERE + b"\nno token", b"a\nb"),
        (b"", b""),
    ],
)
async def test_a_malformed_command_is_an_error_and_no_use(args: tuple[bytes, ...]) -> None:
    async with filled() as world:
        node = world["a"]
        before = list(node.holds())
        with pytest.raises(ValueError, match=r".*"):
            node.ask(b"RM.VALUES", *args)
        assert list(node.holds()) == before
        assert (node.node.counters.hits, node.node.counters.misses) == (0, 0)
