"""Which sessions a node accepts, by what its view says (R4)."""

from __future__ import annotations

import pytest

from ringmaster.errors import PeerError
from ringmaster.protocol.resp import Reply, encode
from tests.fakes.nodes import TestNode, World, row


def opens(
    node: TestNode,
    *,
    term: int = 5,
    session: int = 1,
    mode: bytes = b"sync",
    fill: int = 0,
    sender: bytes = b"a-1",
) -> Reply:
    return node.takes(encode(b"RM.OPEN", 0, term, session, mode, fill, 0, sender))


def code(reply: Reply) -> str:
    return reply.code if isinstance(reply, PeerError) else "accepted"


async def test_only_the_row_s_primary_in_its_term_opens_a_session() -> None:
    async with World() as world:
        b = world["b"]
        assert code(opens(b)) == "UNLISTED"  # no view yet
        b.node.roles.adopt(world.view(5, row("a", "b", term=5)))
        assert code(opens(b, sender=b"c-1")) == "STALE"
        assert code(opens(b, sender=b"a-0")) == "STALE"  # an incarnation before
        assert code(opens(b, term=4)) == "STALE"
        assert code(opens(b, term=6)) == "UNLISTED"  # ours is the older view
        assert opens(b) == [0, 0]


async def test_a_node_that_the_view_does_not_list_keeps_nothing() -> None:
    async with World() as world:
        world["c"].node.roles.adopt(world.view(5, row("a", "b", term=5)))
        assert code(opens(world["c"])) == "UNLISTED"


async def test_a_newer_session_closes_older_ones_and_an_older_one_is_refused() -> None:
    async with World() as world:
        b = world["b"]
        b.node.roles.adopt(world.view(5, row("a", "b", term=5)))
        assert opens(b, session=3) == [0, 0]
        assert code(opens(b, session=2)) == "STALE"
        assert opens(b, session=4) == [5, 0]


async def test_a_fill_needs_the_view_s_session_number() -> None:
    async with World() as world:
        b = world["b"]
        b.node.roles.adopt(world.view(7, row("a", term=5, b=7)))
        assert code(opens(b, mode=b"fill", fill=6)) == "UNLISTED"
        assert code(opens(b, mode=b"fill", fill=0)) == "UNLISTED"
        assert code(opens(b, mode=b"sync", fill=7)) == "UNLISTED"  # nothing to go on from
        assert opens(b, mode=b"fill", fill=7) == [5, 0]
        assert opens(b, session=2, mode=b"sync", fill=7) == [5, 0]


async def test_an_in_sync_copy_is_not_emptied_by_a_fill() -> None:
    async with World() as world:
        b = world["b"]
        b.node.roles.adopt(world.view(7, row("a", "b", term=5)))
        assert code(opens(b, mode=b"fill", fill=7)) == "UNLISTED"


async def test_the_awaited_predecessor_goes_on_in_its_own_term() -> None:
    async with World() as world:
        b = world["b"]
        b.node.roles.adopt(world.view(5, row("a", "b", term=5)))
        b.node.roles.adopt(world.view(6, row("b", "a", term=6, awaits="a")))
        assert opens(b) == [0, 0]
        b.node.roles.adopt(world.view(7, row("b", "a", term=6)))  # it is fenced
        assert code(opens(b, session=2)) == "STALE"


@pytest.mark.parametrize(
    ("term", "sender", "answer", "serves"),
    [
        (6, b"a-1", "accepted", True),
        (5, b"a-1", "STALE", False),
        (7, b"a-1", "UNLISTED", False),
        (6, b"a-0", "accepted", False),
        (6, b"c-1", "accepted", False),
    ],
)
async def test_released_counts_from_the_awaited_incarnation_for_this_term(
    term: int, sender: bytes, answer: str, serves: bool
) -> None:
    async with World() as world:
        b = world["b"]
        b.node.roles.adopt(world.view(5, row("a", "b", term=5)))
        b.node.roles.adopt(world.view(6, row("b", term=6, awaits="a")))
        assert code(b.takes(encode(b"RM.RELEASED", 0, term, sender))) == answer
        assert b.serves() is serves
        assert code(b.takes(encode(b"RM.RELEASED", 0, term, sender))) == answer  # once more


async def test_one_refused_partition_does_not_hold_up_the_others() -> None:
    async with World("ab", partitions=2) as world:
        world.adopt(world.view(1, row("a", "b", term=1), row("a", "b", term=1)))
        await world.settle()
        b = world["b"]
        b.node.roles.replicas[0].seq = 9  # what can only happen by a fault
        world["a"].put(b"k", b"1", 0)
        written = world["a"].put(b"k", b"1", 1)
        await world.settle(ticks=False)
        assert written.reply[0] == 1
        assert b.holds(0) == {}
