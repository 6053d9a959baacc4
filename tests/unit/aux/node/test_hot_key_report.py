"""Which keys a node says are read most."""

from __future__ import annotations

from typing import cast

import pytest

from aux.node.hot_keys import HALVE_S
from ringmaster.cluster.hot_keys import HotKey, decode_hot_keys
from tests.fakes.nodes import TestNode, World, row

PT = b"0.1"


def asked(node: TestNode, most: int = 10) -> list[HotKey]:
    return decode_hot_keys(cast(bytes, node.ask(b"RM.HOTKEYS", most).reply))


async def test_reads_a_second_are_told_whether_or_not_masters_take_copies() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        for key in (b"hot", b"warm"):
            node.put(key, b"v")
        for _ in range(4000):
            node.get(b"hot")
        for _ in range(400):
            node.get(b"warm")
        node.ask(b"RM.USED", PT, b"hot", 1000)
        node.clock.now += 10.0
        hot, warm = asked(node)
        assert (hot.key, hot.node, hot.partition, hot.copies) == ("hot", "a", 0, 0)
        assert hot.reads_per_s == pytest.approx(500, rel=0.1)
        assert warm.reads_per_s == pytest.approx(40, rel=0.3)
        assert [each.key for each in asked(node, 1)] == ["hot"]


async def test_what_is_no_longer_read_fades() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        node.put(b"k", b"v")
        node.ask(b"RM.USED", PT, b"k", 1000)
        node.node.housekeeping.tick()
        before = asked(node)[0].reads_per_s
        for _ in range(5):
            node.clock.now += HALVE_S
            node.node.housekeeping.tick()
        [row_] = asked(node)
        assert row_.reads_per_s < before / 16


async def test_keys_of_others_and_what_is_no_text_are_left_out() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        node.put(b"\xff", b"v")
        node.put(b"k", b"v")
        node.ask(b"RM.USED", PT, b"\xff", 10, PT, b"k", 10)
        assert [each.key for each in asked(node)] == ["k"]
        node.node.roles.primaries[0].serving = False
        assert asked(node) == []
