"""Requests of the masters' self-audit on the fast path: known by their token, answered as any other, counted and limited nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from master.http.access import Gate
from master.http.limits import Limits
from master.http.rate_limits import RateLimits
from ringmaster.access.canary import canary_grant, canary_token
from ringmaster.access.grant import digest_of, make_grant
from ringmaster.protocol.canary import CANARY_PREFIX
from ringmaster.protocol.resp import Command
from ringmaster.runtime.rate import parse_rate
from tests.unit.fake_wire import ticks
from tests.unit.master.fastpath.world import HOST, WRITTEN, World, entry, get, put, statuses

KEY = b"/data/" + CANARY_PREFIX + b"m1/ab/1"
FIELD = b"Authorization: Bearer %b\r\n" % canary_token("s").encode()
GRANTS = {
    "open": None,
    "tokens": [make_grant("app", digest_of("app"), ["read", "write"])],
}


@pytest_asyncio.fixture(params=GRANTS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    rates = RateLimits(parse_rate("1/h,burst=1"))
    gate = Gate(GRANTS[request.param], canary=canary_grant("s"))
    world = World(Limits(), gate, rates=rates)
    await world.start()
    yield world
    await world.path.close(0)
    await world.router.close()


def counted(world: World) -> int:
    return sum(series.count for series in world.path.context.counters)


async def ask(world: World, request: bytes, reply: bytes) -> tuple[Command, bytes]:
    client = world.client("192.0.2.1")
    client.receive(request)
    [command] = await world.asked()
    world.aux.receive(reply)
    await ticks()
    return command, client.said()


async def test_reads_and_writes_are_done_and_leave_no_trace_in_the_figures(world: World) -> None:
    for _ in range(5):
        command, reply = await ask(world, get(KEY, FIELD), entry(b"17"))
        assert command[0] == b"RM.GET"
        assert statuses(reply) == [200]
        command, reply = await ask(world, put(b"18", KEY + b"?ttl=60", FIELD), WRITTEN % 0)
        assert command[0] == b"RM.SET"
        assert statuses(reply) == [204]
        _, reply = await ask(world, get(KEY, FIELD), b"$-1\r\n")
        assert statuses(reply) == [404]
        assert b"RateLimit" not in reply
    assert counted(world) == 0
    assert world.path.context.rates.addresses == 0


async def test_the_token_is_good_for_its_keys_alone(world: World) -> None:
    client = world.client()
    client.receive(get(b"/data/app", FIELD))
    await ticks()
    # aiohttp is to refuse it.
    assert world.fallbacks
    delete = b"DELETE %b HTTP/1.1\r\n%b%b\r\n" % (KEY, HOST, FIELD)
    client = world.client()
    client.receive(delete)
    await ticks()
    assert len(world.fallbacks) == 2
