"""The write most clients send has a way of its own; it must do and say what the general way does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringmaster.protocol import entry as entries
from ringmaster.protocol.resp import encode
from ringmaster.protocol.write_options import PLAIN, WriteOptions, encode_options
from tests.fakes.nodes import TestNode, World, row
from tests.unit.aux.server.test_server import Client

BRIEF = encode_options(WriteOptions(ttl_ms=1000))


def nothing(node: TestNode) -> None:
    """The key was never there."""


def present(node: TestNode) -> None:
    node.put(b"k", b"0")


def expired(node: TestNode) -> None:
    node.ask(b"RM.SET", node.token(), b"k", b"0", BRIEF)
    node.clock.now += 5


def overloaded(node: TestNode) -> None:
    node.node.housekeeping.overloaded = True


def lapsing(node: TestNode) -> None:
    """The lease ends between the first look at it and the second."""
    node.node.clock.lease.held_until = 0.0


def not_serving(node: TestNode) -> None:
    node.node.roles.seal()


@pytest.mark.parametrize("before", [nothing, present, expired, overloaded, lapsing, not_serving])
@pytest.mark.parametrize("size", [1, 20 * 2**20])
@pytest.mark.parametrize("least", [1, 2])
async def test_a_plain_set_is_a_set_without_options(
    before: Callable[[TestNode], None], size: int, least: int
) -> None:
    found = []
    for options in ((), (encode_options(PLAIN),)):
        async with World("a", min_in_sync=least) as world:
            world.adopt(world.view(1, row("a", term=1)))
            node = world["a"]
            before(node)
            answer = node.ask(b"RM.SET", b"0.1", b"k", b"1" * size, *options)
            counters = node.node.counters
            found.append(
                (
                    answer.raw,
                    {
                        key: entry[entries.SLOT_SIZE :]
                        for key, entry in node.node.roles.primaries[0].data.entries.items()
                    },
                    (counters.writes, counters.expirations),
                )
            )
    assert found[0] == found[1]


@pytest.mark.parametrize("before", [nothing, present, expired])
async def test_a_plain_set_waits_for_the_copies_as_any_other(
    before: Callable[[TestNode], None],
) -> None:
    found = []
    for options in ((), (encode_options(PLAIN),)):
        async with World("ab") as world:
            world.adopt(world.view(1, row("a", "b", term=1)))
            await world.settle()
            before(world["a"])
            await world.settle()
            world.wire("a", "b").held = True
            answer = world["a"].ask(b"RM.SET", b"0.1", b"k", b"1", *options)
            assert answer.raw is None
            assert world["a"].get(b"k") != b"1"
            world.wire("a", "b").held = False
            await world.settle()
            found.append((answer.raw, world["a"].holds(), world["b"].holds()))
    assert found[0] == found[1]


async def test_a_plain_set_without_a_value_changes_nothing() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        client = Client(world["a"].server)
        client.send(encode(b"RM.SET", b"0.1", b"k"))
        [reply] = client.replies()
        assert str(reply) == "ERR wrong arguments for this command"
        assert world["a"].holds() == {}
