"""`ringmaster mcp` as an assistant's client speaks to it, with a real cluster behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, MCPError, StdioServerParameters, stdio_client

from ringmaster.client import Client
from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

READING = {
    "status", "locate", "explain", "hot_keys", "evictions", "advice", "keys", "snapshots", "drain_forecast",
}  # fmt: skip
CHANGING = {
    "drain", "undrain", "pause_rebalance", "resume_rebalance", "take_snapshot", "delete_key", "invalidate_tag",
}  # fmt: skip


class Assistant:
    """Calls tools."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session

    async def tools(self) -> dict[str, Any]:
        return {tool.name: tool for tool in (await self.session.list_tools()).tools}

    async def call(self, name: str, **arguments: Any) -> Any:
        result: Any = await self.session.call_tool(name, arguments)
        text = result.content[0].text
        return text if result.is_error else json.loads(text)


@asynccontextmanager
async def assistant(url: str, *options: str, **environment: str) -> AsyncIterator[Assistant]:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ringmaster.cli", "mcp", "--url", url, *options],
        env=dict(os.environ) | environment,
    )
    async with (
        stdio_client(server) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        yield Assistant(session)


async def refused(it: Assistant, name: str, **arguments: Any) -> bool:
    """Whether there is no such tool."""
    try:
        return "unknown tool" in str(await it.call(name, **arguments)).lower()
    except MCPError as error:
        return "unknown tool" in str(error).lower()


async def test_without_leave_to_write_it_offers_questions_and_they_are_answered(
    shared_cluster: Cluster,
) -> None:
    with Client(shared_cluster.url) as client:
        client.put("mcp/1", b"secret value", tags=["t-mcp"])
    async with assistant(shared_cluster.url) as it:
        tools = await it.tools()
        assert set(tools) == READING
        assert all(tool.annotations.read_only_hint for tool in tools.values())
        assert all(tool.description for tool in tools.values())
        assert (await it.call("status"))["health"] in ("ok", "recovering")
        located = await it.call("locate", key="mcp/1")
        assert located["entry"]["tags"] == ["t-mcp"]
        assert (await it.call("keys", prefix="mcp/"))["keys"] == ["mcp/1"]
        assert (await it.call("explain", key="mcp/1"))["state"] == "present"
        assert (await it.call("explain", key="mcp/none"))["state"] == "unknown"
        assert "hot_keys" in await it.call("hot_keys", limit=5)
        assert "policies" in await it.call("advice")
        assert isinstance(await it.call("evictions"), dict)
        assert "nodes" in await it.call("snapshots")
        forecast = await it.call("drain_forecast", node="aux1")
        assert forecast["node"] == "aux1"
        assert "no node with this id" in str(await it.call("drain_forecast", node="nobody"))
        assert "limit" in str(await it.call("hot_keys", limit=0))
        assert "1 to 1000" in str(await it.call("keys", prefix="", limit=5000))
        everything = [await it.call(name, key="mcp/1") for name in ("locate", "explain")]
        assert "secret value" not in json.dumps(everything)
        assert await refused(it, "delete_key", key="mcp/1")
    with Client(shared_cluster.url) as client:
        assert client.get("mcp/1") == b"secret value"


async def test_with_leave_to_write_it_changes_the_cluster(shared_cluster: Cluster) -> None:
    with Client(shared_cluster.url) as client:
        client.put("mcp/a", b"1", tags=["t-a"])
        client.put("mcp/b", b"2", tags=["t-b"])
        async with assistant(shared_cluster.url, "--write") as it:
            tools = await it.tools()
            assert set(tools) == READING | CHANGING
            assert all(not tools[name].annotations.read_only_hint for name in CHANGING)
            await it.call("invalidate_tag", tag="t-a")
            await it.call("delete_key", key="mcp/b")
            assert (client.get("mcp/a"), client.get("mcp/b")) == (None, None)
            await it.call("pause_rebalance")
            await it.call("resume_rebalance")
            assert (await it.call("drain", node="aux3"))["becomes"] == "draining"
            assert (await it.call("undrain", node="aux3"))["becomes"] == "taking part"
            assert (await it.call("take_snapshot"))["status"] in ("running", "done")


async def test_a_cluster_that_is_away_is_told_of_as_a_sentence() -> None:
    async with assistant("http://127.0.0.1:9") as it:
        assert "cannot reach" in await it.call("status")


async def test_the_rights_of_a_token_apply(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    token = _token(file, "reader", "read")
    with Cluster("--tokens", str(file), masters=1, aux=1) as cluster:
        cluster.wait_ready()
        async with assistant(cluster.url, "--write", RINGMASTER_TOKEN=token) as it:
            assert (await it.call("status"))["health"]
            assert "write" in await it.call("delete_key", key="a")
            assert "admin" in await it.call("drain", node="aux1")


def _token(file: Path, name: str, rights: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ringmaster.cli", "token", "create", "--file", str(file), "--name", name, "--rights", rights],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return done.stdout.split()[-1]
