"""Deadlines, lost links, refusals and clients that stall, on the fast path."""

import asyncio

import pytest

from master.fastpath.connection import MUCH_UNREAD
from master.fastpath.server import CALM_SWEEP_S, MAX_UNREAD
from master.http.limits import Limits
from tests.unit.fake_wire import ticks, until
from tests.unit.master.fastpath.world import (
    WRITTEN,
    World,
    entry,
    get,
    put,
    statuses,
)


@pytest.mark.parametrize("limits", [Limits(deadline_s=0.2)])
async def test_deadlines_hold_without_a_timer_per_request(world: World) -> None:
    sweep = asyncio.create_task(world.path.run())
    reader, writer = world.client(), world.client()
    reader.receive(get() + get(b"/data/c"))
    writer.receive(put(b"v"))
    await world.asked()
    await until(lambda: reader.writes and writer.writes)
    await ticks()
    assert statuses(reader.said()) == [503, 503]
    raw = writer.said()
    assert statuses(raw) == [503]
    assert b'"outcome":"unknown"' in raw
    assert b"Retry-After: 1\r\n" in raw
    world.aux.receive(entry(b"1") + entry(b"3") + WRITTEN % 0)
    assert reader.writes == writer.writes == []
    sweep.cancel()


@pytest.mark.parametrize("limits", [Limits(deadline_s=0.3)])
async def test_a_request_that_comes_while_sweeps_are_seldom_is_not_late(world: World) -> None:
    loop = asyncio.get_running_loop()
    sweep = asyncio.create_task(world.path.run())
    client = world.client()
    await asyncio.sleep(0.01)
    began = loop.time()
    client.receive(get())
    await world.asked()
    await until(lambda: client.writes)
    assert statuses(client.said()) == [503]
    assert 0.3 <= loop.time() - began < 0.3 + CALM_SWEEP_S
    sweep.cancel()


async def test_a_write_on_a_lost_link_is_unknown_and_a_read_is_asked_again(world: World) -> None:
    client = world.client()
    client.receive(put(b"v") + get())
    await world.asked()
    await world.adopt(2, "2")
    raw = client.said()
    assert statuses(raw) == [503]
    assert b'"outcome":"unknown"' in raw
    assert await world.asked() == [[b"RM.GET", b"0.2", b"a"]]
    world.aux.receive(entry(b"1"))
    await ticks(5)
    assert statuses(client.said()) == [200]


@pytest.mark.parametrize(
    ("reply", "status", "outcome"),
    [
        (b"-SHED full\r\n", 503, b"not-applied"),
        (b"-MINSYNC 1 of 2\r\n", 503, b"not-applied"),
        (b"-UNKNOWN\r\n", 503, b"unknown"),
        (b"-TOOBIG\r\n", 413, b""),
        (WRITTEN % 2, 412, b""),
    ],
)
async def test_refusals_of_a_write(world: World, reply: bytes, status: int, outcome: bytes) -> None:
    client = world.client()
    client.receive(put(b"v"))
    await world.asked()
    world.aux.receive(reply)
    raw = client.said()
    assert statuses(raw) == [status]
    assert outcome in raw


async def test_a_write_that_did_not_run_is_sent_again(world: World) -> None:
    client = world.client()
    client.receive(put(b"v"))
    first = await world.asked()
    world.aux.receive(b"-MOVED 1\r\n")
    await until(lambda: world.aux.writes)
    assert world.aux.taken() == first
    world.aux.receive(WRITTEN % 0)
    await ticks(5)
    assert statuses(client.said()) == [204]


async def test_a_client_that_leaves_costs_nothing_more(world: World) -> None:
    client = world.client()
    client.receive(get() + get(b"/data/b"))
    await world.asked()
    client.lose()
    world.aux.receive(b"-WAIT 1\r\n" + entry(b"1"))
    await ticks(5)
    assert client.writes == []
    assert not world.path.connections


@pytest.mark.parametrize(
    ("sent", "wait_s"),
    [(b"GET /data/a HTTP/1.1\r\nHo", 11), (put(b"value")[:-2], 61)],
)
async def test_a_request_that_does_not_arrive_gets_408(
    world: World, sent: bytes, wait_s: float
) -> None:
    sweep = asyncio.create_task(world.path.run())
    client = world.client()
    for at in range(len(sent)):
        # Byte by byte, which buys no time.
        client.receive(sent[at : at + 1])
        world.clock.ahead += wait_s / len(sent)
    await until(lambda: client.shut)
    assert statuses(client.said()) == [408]
    sweep.cancel()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(world: World) -> None:
    idle, busy = world.client(), world.client()
    world.clock.ahead += 70
    busy.receive(get())
    await world.asked()
    world.aux.receive(entry(b"1"))
    world.clock.ahead += 10
    for connection in list(world.path.connections):
        connection.sweep(world.clock.boottime())
    await ticks()
    assert idle.closed
    assert not busy.closed


async def test_closing_lets_requests_finish_and_takes_no_more(world: World) -> None:
    client = world.client()
    client.receive(get())
    await world.asked()
    closing = asyncio.create_task(world.path.close(2.0))
    await ticks()
    client.receive(get(b"/data/b"))
    assert await world.asked() == []
    world.aux.receive(entry(b"1"))
    assert statuses(client.said()) == [200]
    await closing
    assert client.closed


async def test_closing_does_not_wait_for_reads_that_wait(world: World) -> None:
    client = world.client()
    client.receive(b"GET /data/a HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=30\r\n\r\n")
    await world.asked()
    aux = world.aux
    aux.receive(b"$-1\r\n")
    await until(lambda: world.network.made[-1][1] is not aux and world.aux.writes)
    events = world.aux
    events.receive(b"+OK\r\n")
    await until(lambda: b"RM.FILL" in [command[0] for command in events.taken()])
    events.receive(b"+OK\r\n*3\r\n$-1\r\n$0\r\n\r\n:1\r\n")
    await ticks(5)
    assert client.writes == []
    closing = asyncio.create_task(world.path.close(60.0))
    await until(lambda: client.closed)
    assert statuses(client.said()) == [404]
    await closing


async def test_a_bug_is_a_500_and_not_a_hung_client(world: World) -> None:
    client = world.client()
    client.receive(get())
    await world.asked()

    def bug() -> float:
        raise ZeroDivisionError

    world.jitter = bug
    for _ in range(2):
        world.aux.receive(b"-WAIT 1\r\n")
        await ticks(5)
    assert statuses(client.said()) == [500]


async def test_who_reads_least_is_dropped_the_moment_too_much_is_unread(world: World) -> None:
    slow, slower, fine = world.client(), world.client(), world.client()
    slow.unread, slower.unread = MAX_UNREAD // 2, MAX_UNREAD // 2 + 1
    slow.protocol.pause_writing()
    assert [slow.closed, slower.closed] == [False, False]
    slower.protocol.pause_writing()
    assert slower.closed
    fine.unread = MUCH_UNREAD
    fine.protocol.pause_writing()
    assert [slow.closed, fine.closed] == [False, False]
