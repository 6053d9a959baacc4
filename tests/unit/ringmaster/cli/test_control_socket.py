"""The socket of a running `ringmaster up`: an order a line, and what comes back."""

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ringmaster.cli.control_socket import POINTER_NAME, SOCKET_NAME, ask_up, control_socket
from ringmaster.errors import LinkDown, SettingsError


async def answer(request: Mapping[str, Any], sender: str) -> Mapping[str, Any]:
    assert sender == f"uid {os.getuid()} (pid {os.getpid()})"
    if request.get("do") != "show":
        raise SettingsError("port 7004 for aux4 is in use")
    return {"nodes": ["aux1"]}


async def test_an_order_is_answered_and_a_refusal_is_told(tmp_path: Path) -> None:
    async with control_socket(tmp_path, tmp_path, answer):
        shown = await asyncio.to_thread(ask_up, tmp_path, {"do": "show"}, 5.0)
        assert shown == {"nodes": ["aux1"]}
        with pytest.raises(SettingsError, match="port 7004 for aux4 is in use"):
            await asyncio.to_thread(ask_up, tmp_path, {"do": "scale"}, 5.0)
    assert not (tmp_path / SOCKET_NAME).exists()
    with pytest.raises(LinkDown, match="no `ringmaster up` runs on the data dir"):
        ask_up(tmp_path, {"do": "show"})


async def test_nonsense_ends_nothing_but_its_own_connection(tmp_path: Path) -> None:
    async with control_socket(tmp_path, tmp_path, answer):
        for line in (b"{\n", b"", b"\xff\n"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
            writer.write(line)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        assert await asyncio.to_thread(ask_up, tmp_path, {"do": "show"}, 5.0)


async def test_a_socket_that_a_killed_up_left_behind_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))
    (tmp_path / POINTER_NAME).write_text(json.dumps({"socket": str(tmp_path / SOCKET_NAME)}))
    with pytest.raises(LinkDown):
        ask_up(tmp_path, {"do": "show"})
    async with control_socket(tmp_path, tmp_path, answer):
        assert await asyncio.to_thread(ask_up, tmp_path, {"do": "show"}, 5.0)
