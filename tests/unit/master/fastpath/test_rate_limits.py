"""Limits of rates on the fast path: counted where a request begins, and once only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import http_sf
import pytest
import pytest_asyncio

from master.http.access import Gate
from master.http.limits import Limits
from master.http.rate_limits import RateLimits
from ringmaster.access.grant import digest_of, make_grant
from ringmaster.runtime.rate import parse_rate
from tests.unit.fake_wire import ticks
from tests.unit.master.fastpath.world import Client, World, entry, get, post, put, statuses

FAR = "192.0.2.1"
FIELD = b"Authorization: Bearer app\r\n"


@pytest.fixture
def rates() -> RateLimits:
    # So slow that nothing comes back while a test runs.
    return RateLimits(parse_rate("1/h,burst=3"))


@pytest_asyncio.fixture
async def world(rates: RateLimits) -> AsyncIterator[World]:
    world = World(Limits(), rates=rates)
    await world.start()
    yield world
    await world.path.close(0)
    await world.router.close()


async def answered(world: World, client: Client, request: bytes) -> bytes:
    """The reply to `request`, which the node has if it is asked."""
    client.receive(request)
    for _ in await world.asked():
        world.aux.receive(entry(b"1"))
    await ticks()
    return client.said()


def left(reply: bytes) -> object:
    head = reply.partition(b"\r\n\r\n")[0].split(b"\r\n")
    [line] = [line for line in head if line.startswith(b"RateLimit: ")]
    [(name, parameters)] = http_sf.parse(line.removeprefix(b"RateLimit: "), tltype="list")
    assert name == "address"
    return parameters["r"]


async def test_a_client_reads_its_quota_down_and_is_refused_then(world: World) -> None:
    client = world.client(FAR)
    replies = [await answered(world, client, get()) for _ in range(5)]
    assert [statuses(reply) for reply in replies] == [[200], [200], [200], [429], [429]]
    assert [left(reply) for reply in replies] == [2, 1, 0, 0, 0]
    assert b'\r\nRateLimit-Policy: "address";q=3;w=10800\r\n' in replies[0]
    assert b"\r\nRetry-After: 3600\r\n" in replies[3]
    assert b'"violated-policies":["address"]' in replies[3]
    assert not world.fallbacks


async def test_another_connection_of_the_same_address_is_refused_as_well(world: World) -> None:
    for _ in range(3):
        assert statuses(await answered(world, world.client(FAR), get())) == [200]
    assert statuses(await answered(world, world.client(FAR), get())) == [429]
    assert statuses(await answered(world, world.client("192.0.2.2"), get())) == [200]


async def test_behind_a_proxy_of_this_host_each_client_counts_for_itself(world: World) -> None:
    proxy = world.client()
    for name in (b"198.51.100.1", b"198.51.100.2"):
        request = get(more=b"X-Forwarded-For: " + name + b"\r\n")
        codes = [statuses(await answered(world, proxy, request)) for _ in range(4)]
        assert codes == [[200], [200], [200], [429]]


async def test_a_client_by_tcp_cannot_choose_for_whom_it_counts(world: World) -> None:
    client = world.client(FAR)
    codes = []
    for number in range(4):
        request = get(more=b"X-Forwarded-For: 198.51.100.%d\r\n" % number)
        codes.append(statuses(await answered(world, client, request))[0])
    assert codes == [200, 200, 200, 429]


async def test_a_pipeline_is_answered_in_order_with_what_was_left_at_each(world: World) -> None:
    client = world.client(FAR)
    client.receive(get(b"/data/a") + get(b"/data/b") + get(b"/data/c") + get(b"/data/d"))
    asked = await world.asked()
    assert len(asked) == 3
    for _ in asked:
        world.aux.receive(entry(b"1"))
    await ticks()
    assert statuses(client.said()) == [200, 200, 200, 429]


async def test_what_is_handed_over_was_not_counted_here(world: World, rates: RateLimits) -> None:
    client = world.client(FAR)
    client.receive(get(more=b"Range: bytes=0-1\r\n"))
    await ticks()
    assert world.fallbacks[0].taken()
    world.fallbacks[0].reply()
    await ticks()
    client.said()
    assert left(await answered(world, client, get())) == 2


async def test_a_body_that_comes_in_pieces_is_counted_once(world: World) -> None:
    client = world.client(FAR)
    request = put(b"0123456789")
    for at in range(0, len(request), 7):
        client.receive(request[at : at + 7])
    assert len(await world.asked()) == 1
    world.aux.receive(b"*4\r\n:0\r\n:26\r\n:43\r\n:0\r\n")
    await ticks()
    assert left(client.said()) == 2


async def test_a_refused_write_is_aiohttps_to_refuse(world: World, rates: RateLimits) -> None:
    client = world.client(FAR)
    for _ in range(3):
        rates.enter(FAR, "", world.clock.boottime())
    client.receive(post(b'{"key":"a","value":1}'))
    assert await world.asked() == []
    assert world.fallbacks[0].taken()


async def test_each_key_of_a_bulk_read_counts(world: World, rates: RateLimits) -> None:
    client = world.client(FAR)
    body = b'["a","b","c","d"]'
    client.receive(
        b"POST /data/bulk/get HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    assert len(await world.asked()) == 1
    world.aux.receive(b"$7\r\n1\0002\0003\0004\r\n")
    await ticks()
    assert left(client.said()) == 0
    assert statuses(await answered(world, client, get())) in ([429], [])


async def test_what_cannot_be_answered_at_all_says_what_is_left(world: World) -> None:
    client = world.client(FAR)
    assert left(await answered(world, client, get(b"/data?key=a%00"))) == 2


async def test_a_token_has_a_limit_of_its_own() -> None:
    grants = [make_grant("app", digest_of("app"), ["read"], rate="1/h,burst=2")]
    rates = RateLimits()
    world = World(Limits(), Gate(grants), rates=rates)
    await world.start()
    try:
        rates.adopt(grants)
        codes = []
        for number in range(3):
            client = world.client(f"192.0.2.{number}")
            codes += statuses(await answered(world, client, get(more=FIELD)))
        assert codes == [200, 200, 429]
        # Whose token is unknown is told so by aiohttp.
        world.client(FAR).receive(get(more=b"Authorization: Bearer other\r\n"))
        await ticks()
        assert world.fallbacks[0].taken()
    finally:
        await world.path.close(0)
        await world.router.close()


async def test_limits_that_begin_and_end_are_followed_by_open_connections() -> None:
    grants = [make_grant("app", digest_of("app"), ["read"])]
    rates = RateLimits()
    world = World(Limits(), Gate(grants), rates=rates)
    await world.start()
    try:
        client = world.client(FAR)
        request = get(more=FIELD)
        assert b"RateLimit" not in await answered(world, client, request)
        limited = [make_grant("app", digest_of("app"), ["read"], rate="1/h")]
        world.gate.replace(limited)
        rates.adopt(limited)
        world.path.forget_tokens()
        assert b"RateLimit: " in await answered(world, client, request)
        rates.adopt(grants)
        assert b"RateLimit" not in await answered(world, client, request)
    finally:
        await world.path.close(0)
        await world.router.close()


async def test_a_lost_connection_leaves_nothing(world: World) -> None:
    client = world.client(FAR)
    client.receive(get())
    await world.asked()
    client.lose()
    world.aux.receive(entry(b"1"))
    await asyncio.sleep(0)
    assert not world.path.connections
