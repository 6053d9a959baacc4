"""Connecting by name: refusals, and look-ups that nobody waits for any more."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
import uvloop

from ringmaster.errors import LinkDown
from ringmaster.net.network import AsyncioNetwork

NO_NAME = "not a host name:7001"


async def listening() -> tuple[asyncio.Server, int]:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("timeout_s", [5.0, 0.0])
def test_a_name_that_does_not_resolve_is_link_down_and_leaves_nothing_to_complain_of(
    timeout_s: float,
) -> None:
    complaints: list[dict[str, Any]] = []

    async def connect() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        for _ in range(5):
            with pytest.raises(LinkDown, match="not a host name:7001"):
                await AsyncioNetwork().connect(NO_NAME, asyncio.Protocol, timeout_s)
        # Look-ups run in four threads: once these have ended, so have those before.
        later = (AsyncioNetwork().connect(NO_NAME, asyncio.Protocol, 5.0) for _ in range(4))
        await asyncio.gather(*later, return_exceptions=True)
        gc.collect()
        await asyncio.sleep(0)

    uvloop.run(connect())
    assert complaints == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_name_s_addresses_are_tried_in_turn(host: str) -> None:
    async def connect() -> None:
        server, port = await listening()
        made: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        class Once(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.set_result(True)
                transport.close()

        await AsyncioNetwork().connect(f"{host}:{port}", Once, 5.0)
        assert await made
        server.close()

    uvloop.run(connect())


def test_a_port_that_nobody_listens_on_is_link_down() -> None:
    async def connect() -> None:
        server, port = await listening()
        server.close()
        await server.wait_closed()
        with pytest.raises(LinkDown):
            await AsyncioNetwork().connect(f"localhost:{port}", asyncio.Protocol, 5.0)

    uvloop.run(connect())
