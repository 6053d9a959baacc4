"""Nodes under hand-made views: what they serve and what they refuse, whatever view or clock they have."""

from __future__ import annotations

import msgspec

from tests.fakes.nodes import World, caught_up, row


async def test_views_may_be_skipped() -> None:
    """`b` sees neither that it was removed nor that it is filled: only the view that lists it filling again."""
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world["a"].put(b"gone", b"1")
        await world.settle()
        world["a"].node.roles.adopt(world.view(2, row("a", term=1)))
        world["a"].ask(b"RM.DEL", world["a"].token(), b"gone")
        world.adopt(world.view(3, row("a", term=1, b=3)))
        await world.settle()
        assert world["b"].holds() == {}
        assert caught_up(world, "a") == ["b"]


async def test_an_older_view_changes_nothing() -> None:
    async with World("ab") as world:
        world.adopt(world.view(5, row("a", term=5)))
        world.adopt(world.view(4, row("b", term=4)))
        assert world["a"].serves()
        assert not world["b"].serves()


async def test_a_view_without_this_incarnation_voids_it_once_it_was_listed() -> None:
    async with World("ab") as world:
        world["b"].node.roles.adopt(world.view(1, row("a", term=1), without="b"))
        assert world["b"].reasons == []
        world.adopt(world.view(2, row("a", "b", term=1)))
        await world.settle()
        pending = world["a"].put(b"k", b"1")
        world["a"].node.roles.adopt(world.view(3, row("b", term=3), without="a"))
        assert pending.text.startswith("-UNKNOWN")
        assert world["a"].reasons == ["view 3 does not list this incarnation"]
        assert world["a"].node.store.entries == 0


async def test_a_node_that_was_taken_out_before_it_heard_of_being_listed_is_void() -> None:
    async with World("ab") as world:
        view = world.view(4, row("a", term=1))
        down = msgspec.structs.replace(world.infos["b"], up=False)
        earlier = msgspec.structs.replace(down, incarnation="b-0")
        for info in (earlier, down):
            assert world["b"].reasons == []
            world["b"].node.roles.adopt(
                msgspec.structs.replace(view, nodes={**view.nodes, "b": info})
            )
        assert world["b"].reasons == ["view 4 does not list this incarnation"]


async def test_a_void_node_does_not_begin_to_serve_by_a_late_reply() -> None:
    """The reply to RM.OPEN comes after the node was given up; its lease may still be renewed for a moment."""
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        wire = world.wire("a", "b")
        _, on_reply = wire.queue[0]
        world["a"].node.give_up("a test")
        on_reply([0, 0, b"k"])
        assert not world["a"].serves()
        assert world["a"].node.store.entries == 0


async def test_an_alone_primary_whose_lease_lapsed_while_it_wrote_does_not_acknowledge() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        world["a"].node.clock.lease.held_until = 0.0
        assert world["a"].put(b"k", b"1").text.startswith("-UNKNOWN")


async def test_the_last_copy_dropped_by_a_view_frees_writes_only_while_the_lease_holds() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world.wire("a", "b").held = True
        pending = world["a"].put(b"k", b"1")
        world["a"].node.clock.lease.held_until = 0.0
        world["a"].node.roles.adopt(world.view(2, row("a", term=1)))
        assert pending.text.startswith("-UNKNOWN")


async def test_a_sealed_node_serves_by_no_command_but_commits_what_was_sequenced() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        pending = world["a"].put(b"k", b"1")
        token = world["a"].token()
        world["a"].node.roles.seal()
        ours: list[tuple[bytes, ...]] = [
            (b"RM.GET", token, b"k"), (b"RM.SET", token, b"k", b"2"),
        ]  # fmt: skip
        redis: list[tuple[bytes, ...]] = [
            (b"GET", b"k"), (b"SET", b"k", b"2"), (b"DEL", b"k"), (b"TTL", b"k"),
        ]  # fmt: skip
        for command in ours:
            assert world["a"].ask(*command).text.startswith("-WAIT")
        for command in redis:
            assert world["a"].ask(*command).text.startswith("-CLUSTERDOWN")
        await world.settle()
        assert pending.reply[0] == 1


async def test_copies_take_evictions_and_expiries_from_the_primary_alone() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        options = b"\x96\xcd\x03\xe8\x02\xc4\x00\xc0\xc0\xa0"  # ttl 1000 ms
        world["a"].ask(b"RM.SET", world["a"].token(), b"k", b"1", options)
        await world.settle()
        world["b"].clock.now += 60
        world["b"].node.housekeeping.tick()
        assert world["b"].holds() == {b"k": b"1"}
        world["a"].clock.now += 2
        assert world["a"].get(b"k") is None
        for _ in range(50):
            world["a"].clock.now += 0.5
            world["a"].node.housekeeping.tick()
        await world.settle()
        assert world["a"].holds() == world["b"].holds() == {}


async def test_a_promoted_node_s_time_is_not_behind_its_primary_s() -> None:
    async with World("ab") as world:
        world["a"].clock.now += 0.5
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world["a"].put(b"k", b"1")
        await world.settle()
        assert world["b"].node.clock.now_ms() >= world["a"].node.clock.now_ms()


async def test_below_min_in_sync_writes_are_refused_and_reads_go_on() -> None:
    async with World("ab", min_in_sync=2) as world:
        world.adopt(world.view(1, row("a", term=1)))
        assert world["a"].put(b"k", b"1").text.startswith("-MINSYNC")
        assert world["a"].get(b"k") is None
        world.adopt(world.view(2, row("a", term=1, b=2)))
        await world.settle()
        world.adopt(world.view(3, row("a", "b", term=1)))
        written = world["a"].put(b"k", b"1")
        await world.settle()
        assert written.reply[0] == 1
