"""While requests wait too long others are refused at once: in their order, without any work, and nobody loses the connection."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from master.fastpath.overload import RELEASE_S
from master.fastpath.server import SWEEP_S
from master.http.front_queue import FEW
from master.http.shedding import INTERVAL_S, LEAST_WINDOW, TARGET_S
from tests.unit.fake_wire import ticks, until
from tests.unit.master.fastpath.world import HOST, Client, World, entry, get, post, put, statuses

NEVER = float("inf")
DIRECT = "127.0.0.1"


def press(world: World, room: int = 0) -> None:
    """From now on so many may be in flight, and no interval ends."""
    overload = world.path.context.overload
    overload.shedding.active = overload.active = True
    overload.shedding.window = room
    overload.shedding.ends = NEVER


def spend(world: World) -> None:
    """Refusals have taken more than their share of the next half second."""
    overload = world.path.context.overload
    overload._budget_s = -0.05


def shed(world: World) -> int:
    return world.path.context.overload.refused


def is_refusal(raw: bytes) -> bool:
    head, _, body = raw.partition(b"\r\n\r\n")
    return (
        head.startswith(b"HTTP/1.1 503 ")
        and b"\r\nRetry-After: 1\r\n" in head + b"\r\n"
        and b"\r\nContent-Type: application/problem+json\r\n" in head
        and b"\r\nDate: " in head
        and f"\r\nContent-Length: {len(body)}\r\n".encode() in head + b"\r\n"
        and json.loads(body)["type"] == "/docs#overloaded"
    )


@pytest.mark.parametrize("again", [False, True])
async def test_what_finds_no_room_is_refused_at_once_and_the_connection_stays(
    world: World, again: bool
) -> None:
    client = world.client()
    if again:
        # The fields are known by then.
        client.receive(get())
        await world.asked()
        world.aux.receive(entry(b"1"))
        client.said()
    press(world)
    client.receive(get())
    assert is_refusal(client.said())
    assert await world.asked() == []
    press(world, 1)
    client.receive(get())
    assert len(await world.asked()) == 1
    world.aux.receive(entry(b"1"))
    assert statuses(client.said()) == [200]
    assert shed(world) == 1


async def test_a_pipeline_is_answered_in_its_order_whatever_of_it_is_refused(world: World) -> None:
    press(world, 1)
    client = world.client()
    client.receive(get(b"/data/a") + get(b"/data/b") + put(b"v") + get(b"/data/c"))
    assert client.said() == b""
    assert len(await world.asked()) == 1
    world.aux.receive(entry(b"1"))
    raw = client.said()
    assert statuses(raw) == [200, 503, 503, 503]
    assert raw.count(b'"outcome":"not-applied"') == 1


async def test_in_flight_are_those_of_all_clients(world: World) -> None:
    press(world, 3)
    clients = [world.client() for _ in range(5)]
    for client in clients[:2]:
        client.receive(get())
    assert len(await world.asked()) == 2
    await ticks()
    for client in clients[2:]:
        client.receive(get())
    assert [statuses(client.said()) for client in clients] == [[], [], [], [503], [503]]
    assert len(await world.asked()) == 1


@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        (get(), None),
        (get(more=b'If-None-Match: "a"\r\n'), None),
        (get(more=b"Range: bytes=0-1\r\n"), None),
        (b"GET /data?prefix=a HTTP/1.1\r\n" + HOST + b"\r\n", None),
        (post(b'["a"]').replace(b"/data", b"/data/bulk/get"), None),
        (post(b'{"key":"a","value":1}'), "not-applied"),
        (post(b"[]").replace(b"/data", b"/data/bulk"), "not-applied"),
        (put(b"v"), "not-applied"),
        (put(b"v", more=b"If-Match: *\r\n"), "not-applied"),
        (b"DELETE /data/a HTTP/1.1\r\n" + HOST + b"\r\n", "not-applied"),
        (b"DELETE /data?tag=t HTTP/1.1\r\n" + HOST + b"\r\n", "not-applied"),
    ],
)
async def test_a_refused_write_says_that_nothing_was_done(
    world: World, request_: bytes, outcome: str | None
) -> None:
    press(world)
    client = world.client()
    client.receive(request_)
    raw = client.said()
    assert is_refusal(raw)
    assert json.loads(raw.partition(b"\r\n\r\n")[2]).get("outcome") == outcome
    client.receive(request_)
    assert is_refusal(client.said())
    assert await world.asked() == []
    assert all(fallback.data == b"" for fallback in world.fallbacks)


async def test_a_refused_head_has_no_body(world: World) -> None:
    press(world)
    client = world.client()
    client.receive(b"HEAD /data/a HTTP/1.1\r\n" + HOST + b"\r\n")
    raw = client.said()
    assert raw.startswith(b"HTTP/1.1 503 ")
    assert raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "target", [b"/healthz", b"/readyz", b"/metrics", b"/cluster", b"/snapshots", b"/", b"/database"]
)
async def test_what_tells_how_the_cluster_is_gets_through(world: World, target: bytes) -> None:
    press(world)
    client = world.client()
    client.receive(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, HOST))
    [fallback] = world.fallbacks
    assert fallback.taken().startswith(b"GET " + target)
    assert client.said() == b""


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /data/a HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
        b"GET /data/a HTTP/1.0\r\n\r\n",
        b"GET /data/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"PUT /data/a HTTP/1.1\r\n" + HOST + b"Content-Length: 300000\r\n\r\nabc",
        b"PUT /data/a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
async def test_who_sends_a_large_body_or_wants_to_leave_hears_it_and_the_connection_ends(
    world: World, request_: bytes
) -> None:
    press(world)
    client = world.client()
    client.receive(request_)
    await ticks()
    raw = client.said()
    assert statuses(raw) == [503]
    assert b'"type":"/docs#overloaded"' in raw
    assert b"\r\nConnection: close\r\n" in raw
    assert client.shut
    client.receive(b"more of it")
    assert client.said() == b""


async def test_a_small_body_is_waited_for_so_that_the_connection_can_stay(world: World) -> None:
    press(world)
    client = world.client()
    whole = put(b"value")
    client.receive(whole[:-2])
    assert client.said() == b""
    client.receive(whole[-2:])
    assert is_refusal(client.said())
    client.receive(get())
    assert is_refusal(client.said())


async def test_what_is_malformed_hears_that(world: World) -> None:
    press(world)
    client = world.client()
    client.receive(
        b"GET /data/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
    )
    await ticks()
    assert statuses(client.said()) == [400]


def refused_and_held(world: World) -> Client:
    press(world)
    client = world.client(DIRECT)
    client.receive(get())
    client.said()
    assert client.reading
    spend(world)
    client.receive(get())
    assert is_refusal(client.said())
    assert not client.reading
    assert world.path.context.overload.held == 1
    return client


async def test_who_asks_again_and_again_is_not_read_until_it_is_its_turn(world: World) -> None:
    client = refused_and_held(world)
    world.path.context.overload._budget_s = 0.0
    await until(lambda: client.reading)
    assert world.path.context.overload.held == 0


async def test_what_was_sent_meanwhile_has_waited_and_is_answered_only_if_nobody_else_is_there(
    world: World,
) -> None:
    client = refused_and_held(world)
    overload = world.path.context.overload
    overload._budget_s = 0.0
    await until(lambda: client.reading)
    press(world, 10)
    client.receive(get())
    assert is_refusal(client.said())
    overload._late = 1
    client.receive(get())
    assert len(await world.asked()) == 1
    world.aux.receive(entry(b"1"))
    assert statuses(client.said()) == [200]
    client.receive(get())
    assert is_refusal(client.said())
    overload._budget_s = 0.0
    await until(lambda: client.reading and overload._timer is None)
    client.receive(get())
    assert len(await world.asked()) == 1


async def test_a_held_client_that_leaves_is_forgotten(world: World) -> None:
    client = refused_and_held(world)
    client.lose()
    assert world.path.context.overload.held == 0
    await until(lambda: world.path.context.overload._timer is None, 20 * RELEASE_S)


async def test_a_connection_of_nginx_is_read_on_and_its_client_hears_the_end_late(
    world: World,
) -> None:
    press(world)
    nginx, direct = world.client(), world.client(DIRECT)
    spend(world)
    for client in (nginx, direct):
        client.receive(get())
    slow, plain = nginx.said(), direct.said()
    assert is_refusal(slow)
    assert is_refusal(plain)
    assert nginx.reading
    assert not direct.reading
    found = re.search(rb"^X-Accel-Limit-Rate: (\d+)\r$", slow, re.MULTILINE)
    assert found
    # The head goes at once, and not all of it.
    assert plain.index(b"\r\n\r\n") + 4 < int(found[1]) < len(plain)
    assert b"X-Accel" not in plain


async def test_what_waits_in_nginx_is_refused_to_its_clients_only(world: World) -> None:
    overload = world.path.context.overload
    overload.front.active = overload.active = True
    overload.front.part = 1.0
    # Nothing waits here: the window is of no interest.
    overload.shedding.window = 0
    nginx, direct = world.client(), world.client(DIRECT)
    nginx.receive(get())
    assert is_refusal(nginx.said())
    direct.receive(get())
    assert len(await world.asked()) == 1
    world.aux.receive(entry(b"1"))
    assert statuses(direct.said()) == [200]
    overload.front.part = 0.0
    nginx.receive(get())
    assert len(await world.asked()) == 1


async def test_what_waits_in_nginx_is_told_by_the_connections_it_uses(world: World) -> None:
    overload = world.path.context.overload
    clients = [world.client() for _ in range(FEW + 1)]
    sweep = asyncio.create_task(world.path.run())
    try:
        now = world.clock.boottime()
        while not overload.front.part:
            assert world.clock.boottime() < now + 10
            for client in clients:
                client.receive(get())
            await world.asked()
            for client in clients:
                world.aux.receive(entry(b"1"))
                client.said()
            await asyncio.sleep(SWEEP_S / 2)
        assert overload.front.active
        assert overload.active
        await until(lambda: not overload.active)
    finally:
        sweep.cancel()


@pytest.mark.parametrize(("rest", "begins"), [(0.0, True), (0.2, False)])
async def test_it_begins_when_many_ask_of_a_loop_that_has_no_rest(
    world: World, rest: float, begins: bool
) -> None:
    overload = world.path.context.overload
    wanted_s = 0.0
    overload._wanted = lambda: wanted_s
    now = world.clock.boottime()
    for _ in range(3):
        now += SWEEP_S
        wanted_s += SWEEP_S * (1.0 - rest)
        for _ in range(200):
            world.counters.observe("GET", 200, "hit", 0.0)
        # Of one request a hundred keys may have come from copies.
        world.router.copies.hits += 20_000
        overload.look_at_clients(now, LEAST_WINDOW + 1, 0)
    assert overload.active is begins
    world.clock.ahead += INTERVAL_S
    overload.tick(world.clock.boottime())
    assert overload.active is begins
    world.clock.ahead += INTERVAL_S
    overload.tick(world.clock.boottime())
    assert not overload.active


async def test_it_begins_when_replies_take_long_and_ends_when_nobody_is_refused(
    world: World,
) -> None:
    overload = world.path.context.overload
    clients = [world.client() for _ in range(12)]

    async def ask(took_s: float) -> None:
        for client in clients:
            client.receive(get())
        assert len(await world.asked()) == 12
        world.clock.ahead += took_s
        for client in clients:
            world.aux.receive(entry(b"1"))
            assert statuses(client.said()) == [200]

    await ask(TARGET_S / 10)
    world.clock.ahead += INTERVAL_S
    await ask(TARGET_S / 10)
    assert not overload.active
    await ask(20 * TARGET_S + INTERVAL_S)
    assert overload.active
    world.clock.ahead += INTERVAL_S
    overload.tick(world.clock.boottime())
    assert not overload.active


async def test_requests_that_aiohttp_has_are_in_flight_until_they_are_answered(
    world: World,
) -> None:
    overload = world.path.context.overload
    client, gone, other = world.client(), world.client(), world.client()
    for each in (client, gone):
        each.receive(get(more=b"Range: bytes=0-1\r\n"))
    other.receive(get(more=b"Range: bytes=0-1\r\nPrefer: wait=1\r\n"))
    other.receive(b"")
    assert overload.handed == 2
    gone.lose()
    world.fallbacks[0].reply()
    assert (overload.handed, overload.answered) == (0, 1)


async def test_refusals_are_counted_apart_from_answers(world: World) -> None:
    press(world)
    client = world.client()
    client.receive(get() + put(b"v"))
    counted = {(each.method, each.outcome): each.count for each in world.counters if each.count}
    assert counted == {("GET", "shed"): 1, ("PUT", "shed"): 1}
