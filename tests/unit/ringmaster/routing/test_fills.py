"""The desk of waiting reads against primaries that the test plays (R12)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ringmaster.errors import Shed, Unserved
from ringmaster.protocol.resp import Command, encode_push
from ringmaster.routing.fills import Ask, Filled
from tests.unit.fake_wire import FakeTransport, ticks, until
from tests.unit.ringmaster.routing.test_router import World, key_in, node, soon, view

KEY = key_in(0)
PARKED = b"*3\r\n$-1\r\n$0\r\n\r\n:1\r\n"


def granted(token: bytes, *, waits: int = 0) -> bytes:
    return b"*3\r\n$-1\r\n$%d\r\n%b\r\n:%d\r\n" % (len(token), token, waits)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.adopt(view(1, "abab", node("a"), node("b")))
    yield world
    await world.router.close()


def ask(world: World, *, waits: bool = True) -> Ask:
    return world.router.fills.begin(KEY, waits=waits)


async def result(world: World, each: Ask, seconds: float = 3.0) -> Filled:
    return await world.router.fills.result(each, soon(seconds), soon(seconds))


async def events_of(world: World, known: int) -> FakeTransport:
    """The connection that was opened after the first `known`, once its session was asked for."""
    await until(lambda: len(world.network.made) > known)
    transport = world.network.made[known][1]
    assert transport.taken()[0][0] == b"RM.HELLO"
    transport.receive(b"+OK\r\n")
    await ticks(5)
    return transport


async def heard(transport: FakeTransport) -> list[Command]:
    await until(lambda: transport.writes)
    return transport.taken()


async def begun(world: World, *asks: Ask) -> FakeTransport:
    """The events connection, after the session and the first question."""
    transport = await events_of(world, 2)
    commands = await heard(transport)
    assert [command[0] for command in commands] == [b"RM.SESSION", b"RM.FILL"]
    assert commands[1][1:] == [b"0.1", KEY, b"%d" % len(asks)]
    transport.receive(b"+OK\r\n")
    return transport


async def test_the_first_caller_gets_the_token_and_those_behind_it_are_told(world: World) -> None:
    first, second = ask(world), ask(world)
    events = await begun(world, first, second)
    events.receive(granted(b"0.1.1", waits=1))
    assert await result(world, first) == Filled(None, "0.1.1")
    third = ask(world)
    assert (await heard(events))[0] == [b"RM.FILL", b"0.1", KEY, b"2"]
    events.receive(PARKED + encode_push(b"value", b"0.1", KEY, b"entry"))
    assert await result(world, second) == await result(world, third) == Filled(b"entry")
    assert (await heard(events))[0] == [b"RM.STOP", b"0.1", KEY]
    assert len(world.router.fills) == 0


async def test_a_caller_is_not_answered_by_what_was_said_before_it_was_asked_for(
    world: World,
) -> None:
    first = ask(world)
    events = await begun(world, first)
    events.receive(PARKED)
    second = ask(world)
    await heard(events)
    events.receive(encode_push(b"value", b"0.1", KEY, b"old"))
    assert await result(world, first) == Filled(b"old")
    assert not second.done.done()
    events.receive(PARKED + encode_push(b"value", b"0.1", KEY, b"new"))
    assert await result(world, second) == Filled(b"new")


async def test_a_token_for_nobody_is_given_up_and_one_for_who_is_being_asked_for_is_kept(
    world: World,
) -> None:
    first = ask(world)
    events = await begun(world, first)
    events.receive(PARKED)
    second = ask(world)
    await heard(events)
    world.router.fills.drop(first)
    events.receive(encode_push(b"fill", b"0.1", KEY, b"0.1.2"))
    await ticks(3)
    assert not events.writes
    events.receive(PARKED)
    assert await result(world, second) == Filled(None, "0.1.2")
    assert (await heard(events))[0][0] == b"RM.STOP"
    events.receive(encode_push(b"fill", b"0.1", KEY, b"0.1.3"))
    assert await heard(events) == [
        [b"RM.STOP", b"0.1", KEY],
        [b"RM.GIVEUP", b"0.1", KEY, b"0.1.3"],
    ]


async def test_who_leaves_with_a_token_says_so(world: World) -> None:
    first = ask(world)
    events = await begun(world, first)
    events.receive(granted(b"0.1.1"))
    await until(first.done.done)
    world.router.fills.drop(first)
    assert [b"RM.LEAVE", b"0.1", KEY, b"0.1.1"] in await heard(events)


async def test_who_waits_is_asked_for_again_where_the_partition_moved(world: World) -> None:
    first = ask(world)
    events = await begun(world, first)
    events.receive(PARKED)
    await ticks(3)
    await world.adopt(view(2, "bbab", node("a"), node("b"), terms=2))
    other = await events_of(world, 3)
    commands = await heard(other)
    assert commands[1] == [b"RM.FILL", b"0.2", KEY, b"1"]
    events.receive(encode_push(b"value", b"0.1", KEY, b"old"))
    await ticks(3)
    assert not first.done.done()
    events.receive(encode_push(b"fill", b"0.1", KEY, b"0.1.2"))
    # Or it would be given the next one, and the next.
    assert await heard(events) == [
        [b"RM.STOP", b"0.1", KEY],
        [b"RM.GIVEUP", b"0.1", KEY, b"0.1.2"],
    ]
    other.receive(b"+OK\r\n" + PARKED + encode_push(b"value", b"0.2", KEY, b"new"))
    assert await result(world, first) == Filled(b"new")


async def test_who_waits_is_asked_for_again_when_the_connection_was_lost(world: World) -> None:
    first = ask(world)
    events = await begun(world, first)
    events.receive(PARKED)
    await ticks(3)
    events.lose()
    again = await events_of(world, 3)
    assert (await heard(again))[1] == [b"RM.FILL", b"0.1", KEY, b"1"]
    again.receive(b"+OK\r\n" + granted(b"0.1.2"))
    assert await result(world, first) == Filled(None, "0.1.2")


@pytest.mark.parametrize("refusal", [b"-MOVED 1\r\n", b"-WAIT 1\r\n", b"-AGAIN busy\r\n"])
async def test_a_question_that_is_refused_for_now_is_asked_again(
    world: World, refusal: bytes
) -> None:
    first = ask(world)
    events = await begun(world, first)
    for _ in range(3):
        events.receive(refusal)
        assert (await heard(events))[0][0] == b"RM.FILL"
    events.receive(granted(b"0.1.1"))
    assert (await result(world, first)).fill_token == "0.1.1"


async def test_waiting_ends_in_time_whether_or_not_the_primary_answered(world: World) -> None:
    first = ask(world)
    events = await begun(world, first)
    with pytest.raises(Unserved):
        await result(world, first, 0.05)
    events.receive(PARKED)
    second = ask(world)
    assert [each[0] for each in await heard(events)] == [b"RM.STOP", b"RM.FILL"]
    events.receive(b"+OK\r\n" + PARKED)
    assert await result(world, second, 0.05) == Filled(None)
    assert len(world.router.fills) == 0


async def test_a_node_without_room_has_nobody_wait(world: World) -> None:
    first, second = ask(world), ask(world, waits=False)
    events = await begun(world, first, second)
    events.receive(b"*3\r\n$-1\r\n$0\r\n\r\n:0\r\n")
    assert await result(world, first) == Filled(None, waited=False)
    assert await result(world, second) == Filled(None)


async def test_a_stale_value_comes_with_one_token(world: World) -> None:
    first = ask(world)
    events = await begun(world, first)
    events.receive(b"*3\r\n$5\r\nstale\r\n$5\r\n0.1.1\r\n:0\r\n")
    assert await result(world, first) == Filled(b"stale", "0.1.1")


async def test_a_session_is_renewed_while_its_link_is_up(world: World) -> None:
    task = asyncio.create_task(world.router.events.run())
    first = ask(world)
    events = await begun(world, first)
    renewals = []
    while len(renewals) < 2:
        renewals += [each for each in await heard(events) if each[0] == b"RM.RENEW"]
        events.receive(b":1\r\n" if renewals else b"")
    assert renewals == [[b"RM.RENEW", b"1", b"0"], [b"RM.RENEW", b"2", b"1"]]
    task.cancel()


async def test_who_leaves_is_forgotten_at_once_whoever_else_waits(world: World) -> None:
    first = ask(world)
    events = await begun(world, first)
    events.receive(PARKED)
    second, third = ask(world), ask(world)
    await heard(events)
    events.receive(PARKED)
    await heard(events)
    events.receive(PARKED)
    fourth, fifth = ask(world), ask(world)
    await heard(events)
    [line] = world.router.fills._lines.values()
    world.router.fills.drop(second)
    world.router.fills.drop(fifth)
    assert [*line.parked] == [first, third]
    events.receive(encode_push(b"fill", b"0.1", KEY, b"0.1.2"))
    assert (await result(world, first)).fill_token == "0.1.2"
    events.receive(PARKED + encode_push(b"value", b"0.1", KEY, b"new"))
    assert await result(world, third) == await result(world, fourth) == Filled(b"new")
    assert len(world.router.fills) == 0


async def test_when_its_master_stops_nobody_waits(world: World) -> None:
    first = ask(world)
    events = await begun(world, first)
    events.receive(PARKED)
    second, third = ask(world), ask(world)
    await heard(events)
    world.router.fills.hurry()
    assert await result(world, first) == Filled(None)
    events.receive(PARKED)
    assert await result(world, second) == Filled(None)
    assert (await heard(events))[0] == [b"RM.FILL", b"0.1", KEY, b"0"]
    fourth = ask(world)
    events.receive(granted(b"0.1.2"))
    assert await result(world, third) == Filled(None, "0.1.2")
    events.receive(granted(b""))
    assert await result(world, fourth) == Filled(None)
    assert len(world.router.fills) == 0


async def test_who_came_while_others_were_refused_is_asked_for(world: World) -> None:
    first = ask(world)
    events = await begun(world, first)
    second = ask(world)
    events.receive(b"-SHED too much\r\n")
    with pytest.raises(Shed):
        await result(world, first)
    assert (await heard(events))[0] == [b"RM.FILL", b"0.1", KEY, b"1"]
    events.receive(granted(b"0.1.1"))
    assert (await result(world, second)).fill_token == "0.1.1"
