"""Clients for whom there is no place hear why, and take nothing from the others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from master.fastpath.connection import MAX_TURNED_AWAY
from master.http.limits import Limits
from ringmaster.net.admission import Admission
from tests.unit.fake_wire import ticks
from tests.unit.master.fastpath.world import World, entry, get, statuses


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World(Limits(), admission=Admission(3, 2))
    await world.start()
    yield world
    await world.path.close(0)
    await world.router.close()


async def test_a_client_beyond_the_cap_of_its_address_gets_503_and_others_are_served(
    world: World,
) -> None:
    served = [world.client("10.0.0.1") for _ in range(2)]
    away = world.client("10.0.0.1")
    raw = away.said()
    assert statuses(raw) == [503]
    assert b"\r\nRetry-After: 1\r\n" in raw
    assert b"\r\nConnection: close\r\n" in raw
    assert b"there are 2 connections from this address already" in raw
    assert b'"outcome":"not-applied"' in raw
    assert away.shut
    away.receive(get())
    assert await world.asked() == []
    for client in (*served, world.client("10.0.0.2")):
        client.receive(get())
        assert len(await world.asked()) == 1
        world.aux.receive(entry(b"1"))
        assert statuses(client.said()) == [200]
    assert statuses(world.client("10.0.0.3").said()) == [503]
    assert world.path.context.admission.refused == {"all": 1, "address": 1}


async def test_when_a_client_leaves_there_is_a_place_again(world: World) -> None:
    clients = [world.client("10.0.0.1") for _ in range(3)]
    clients[2].lose()
    assert statuses(world.client("10.0.0.1").said()) == [503]
    clients[0].lose()
    assert world.client("10.0.0.1").said() == b""


async def test_few_of_many_are_given_time_to_read_that_there_is_no_place(world: World) -> None:
    away = [world.client("10.0.0.1") for _ in range(MAX_TURNED_AWAY + 13)]
    assert sum(client.closed for client in away) == 11
    assert all(statuses(client.said()) == [503] for client in away[2:])
    await ticks()
    assert len(world.path.connections) == MAX_TURNED_AWAY + 2
