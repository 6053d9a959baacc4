"""The socket on which a running `ringmaster up` takes orders: a JSON object a line each way, one request a connection.

It is in the run folder, which only its user can enter; the data dir's `up.json` says where.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ringmaster.errors import LinkDown, RingmasterError, SettingsError

SOCKET_NAME: Final = "up.sock"
POINTER_NAME: Final = "up.json"
ANSWER_TIMEOUT_S: Final = 120.0
"""Longer than a node may take to stop."""

_LINE_BYTES: Final = 64 * 1024

Answer = Callable[[Mapping[str, Any], str], Awaitable[Mapping[str, Any]]]
"""From a request, and who sent it, to the reply."""

_CREDENTIALS: Final = struct.Struct("3i")
"""pid, uid, gid: SO_PEERCRED (unix(7))."""


@contextlib.asynccontextmanager
async def control_socket(data_dir: Path, run_dir: Path, answer: Answer) -> Any:
    """Listen within `async with`. An error of ours that `answer` raises is told to who asked."""
    path, pointer = run_dir / SOCKET_NAME, data_dir / POINTER_NAME
    path.unlink(missing_ok=True)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            request = json.loads(await reader.readline())
            try:
                reply: Mapping[str, Any] = await answer(request, _sender(writer))
            except RingmasterError as error:
                reply = {"error": str(error)}
            writer.write(json.dumps(dict(reply)).encode() + b"\n")
            await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_unix_server(serve, path, limit=_LINE_BYTES)
        pointer.write_text(json.dumps({"socket": str(path)}), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot make {path}: {error.strerror}") from error
    try:
        yield
    finally:
        server.close()
        for each in (path, pointer):
            with contextlib.suppress(OSError):
                each.unlink(missing_ok=True)


def _sender(writer: asyncio.StreamWriter) -> str:
    """The user and process at the other end, as the kernel knows them."""
    peer = writer.get_extra_info("socket")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return f"uid {uid} (pid {pid})"


def ask_up(
    data_dir: Path, request: Mapping[str, Any], timeout_s: float = ANSWER_TIMEOUT_S
) -> dict[str, Any]:
    """What the `ringmaster up` on `data_dir` replies. Raises `LinkDown` if none runs there, `SettingsError` if it refuses."""
    missing = f"no `ringmaster up` runs on the data dir {data_dir}; --data-dir names another"
    try:
        pointer = json.loads((data_dir / POINTER_NAME).read_text(encoding="utf-8"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(pointer["socket"]))
            connection.sendall(json.dumps(dict(request)).encode() + b"\n")
            reply: dict[str, Any] = json.loads(connection.makefile("rb").readline(_LINE_BYTES))
    except TimeoutError as error:
        raise LinkDown(f"`ringmaster up` did not answer in {timeout_s:g} s") from error
    except (OSError, ValueError, KeyError) as error:
        raise LinkDown(missing) from error
    if "error" in reply:
        raise SettingsError(str(reply["error"]))
    return reply
