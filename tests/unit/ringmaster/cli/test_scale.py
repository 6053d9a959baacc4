"""`ringmaster scale` with a cluster that shows its nodes to those with a token only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from ringmaster.cli.app import app
from ringmaster.cli.control_socket import control_socket
from tests.fakes.http_cluster import FakeCluster


async def test_without_a_token_nothing_is_started_that_could_not_be_watched(tmp_path: Path) -> None:
    asked: list[Mapping[str, Any]] = []
    with FakeCluster() as cluster:

        async def answer(request: Mapping[str, Any], sender: str) -> Mapping[str, Any]:
            asked.append(request)
            return {"url": cluster.url, "nodes": ["aux1"]}

        cluster.next_replies.append((401, {"detail": "this needs a token"}))
        words = ["scale", "--aux", "2", "--data-dir", str(tmp_path)]
        async with control_socket(tmp_path, tmp_path, answer):
            result = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert (result.exit_code, result.stderr) == (
        2,
        "ringmaster: this needs a token; commands take it from --token, RINGMASTER_TOKEN or RINGMASTER_TOKEN_FILE\n",
    )
    assert asked == [{"do": "show"}]
