"""Waiting for a condition with a bound, instead of sleeping and hoping; and ports for what is started."""

import asyncio
import socket
import time
from collections.abc import Callable

from ringmaster.net.free_ports import free_ports


async def until(condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    """Poll until `condition()` is true. Fails the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    """The same for tests without a loop."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.01)


def free_port() -> int:
    """A port that nobody used just now."""
    return free_ports(1)[0]


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
