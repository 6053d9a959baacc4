"""Free ports of the loopback address, for those who start a cluster of their own: chaos, the benchmark, the tests."""

from __future__ import annotations

import secrets
import socket
from typing import Final

from ringmaster.errors import RingmasterError

_FIRST: Final = 10_000
_LAST: Final = 32_000
"""Linux gives those from 32768 on to clients (ip_local_port_range in ip(7)), who would come between."""


def free_ports(count: int) -> list[int]:
    """`count` consecutive ports that nobody used just now. Raises `RingmasterError` if there are none.

    The search begins anywhere, so that two who start at the same time rarely find the same.
    """
    room = _LAST - _FIRST - count
    start = secrets.randbelow(room)
    for offset in range(0, room, count):
        first = _FIRST + (start + offset) % room
        if all(_is_free(port) for port in range(first, first + count)):
            return list(range(first, first + count))
    raise RingmasterError(f"no {count} free ports in a row between {_FIRST} and {_LAST}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
