"""A fast path with one node behind it; a test may set other limits."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from master.http.limits import Limits
from tests.unit.master.fastpath.world import World


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest_asyncio.fixture
async def world(limits: Limits) -> AsyncIterator[World]:
    world = World(limits)
    await world.start()
    yield world
    await world.path.close(0)
    await world.router.close()
