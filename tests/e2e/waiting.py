"""Waiting for a condition with a bound, instead of sleeping and hoping; and ports for what is started."""

import asyncio
import socket
import time
from collections.abc import Callable


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


def free_ports(count: int) -> list[int]:
    """Ports in a row that nobody used just now, below those that the system gives to clients."""
    start = 10_000 + (time.monotonic_ns() // 1000) % 20_000
    for first in range(start, start + 2000, count):
        ports = list(range(first, first + count))
        if all(map(_is_free, ports)):
            return ports
    raise AssertionError("no free ports")


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
