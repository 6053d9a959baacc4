"""What a node's advisor hears of: reads and writes of primaries, by whichever command they come, and what is gone."""

from __future__ import annotations

from typing import cast

from ringmaster.cluster.advice import decode_advice
from tests.fakes.nodes import TestNode, World, row

PT = b"0.1"


def served(world: World) -> TestNode:
    """Node a, primary of the only partition, of which all keys are sampled."""
    world.adopt(world.view(1, row("a", term=1)))
    node = world["a"]
    node.clock.now += 2.0
    node.node.housekeeping.tick()
    assert node.node.roles.primaries[0].data.sampled
    return node


def seen(node: TestNode) -> int:
    return node.node.advisor.sampled_reads


async def test_reads_count_by_whichever_command_they_come() -> None:
    async with World("a") as world:
        node = served(world)
        node.put(b"k", b"v")
        for number, command in enumerate(
            (
                (b"RM.GET", PT, b"k"),
                (b"RM.GET", PT, b"none"),
                (b"RM.MGET", PT, b"k"),
                (b"GET", b"k"),
            ),
            1,
        ):
            node.ask(*command)
            assert seen(node) == number, command
        node.ask(b"RM.HEAD", PT, b"k")
        assert seen(node) == 4
        node.ask(b"RM.USED", PT, b"k", b"40")
        assert seen(node) == 44


async def test_what_a_node_says_is_of_its_own_reads() -> None:
    async with World("a") as world:
        node = served(world)
        for number in range(100):
            node.put(b"%d" % number, b"v")
            node.get(b"%d" % number)
            node.get(b"none%d" % number)
        advice = decode_advice(cast(bytes, node.ask(b"RM.ADVICE").reply))
        assert (advice.id, advice.reads, advice.misses, advice.sampled) == ("a", 200, 100, 200)
        assert {each.hit_ratio for each in advice.estimates} == {0.5}
        assert {each.policy for each in advice.estimates} == {
            "adaptive", "lru", "sieve", "s3fifo", "wtinylfu",
        }  # fmt: skip


async def test_a_deleted_key_is_in_no_model() -> None:
    async with World("a") as world:
        node = served(world)
        node.put(b"k", b"v")
        models = node.node.advisor.models
        assert {model.miniature.entries for model in models} == {1}
        node.ask(b"RM.DEL", PT, b"k")
        assert {model.miniature.entries for model in models} == {0}


async def test_a_replica_counts_nothing() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        for name in "ab":
            world[name].clock.now += 2.0
            world[name].node.housekeeping.tick()
        world["a"].put(b"k", b"v")
        await world.settle()
        other = world["b"].node
        assert not other.roles.replicas[0].data.sampled
        assert other.advisor.sampled_reads == 0
