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

    They stay set aside for a minute: neither this function nor the kernel gives them to anybody, and who sets
    SO_REUSEADDR, as servers do, can listen on them. The search begins anywhere, so that two who look at the same
    time rarely come across each other.
    """
    room = _LAST - _FIRST - count
    start = secrets.randbelow(room)
    for offset in range(0, room, count):
        first = _FIRST + (start + offset) % room
        if all(_set_aside(port) for port in range(first, first + count)):
            return list(range(first, first + count))
    raise RingmasterError(f"no {count} free ports in a row between {_FIRST} and {_LAST}")


def _set_aside(port: int) -> bool:
    """Leave a connection of the port in TIME_WAIT, if the port is free."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    with socket.socket() as listener, socket.socket() as client:
        # The side that closes first is the one that waits, and keeps the port and this option.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(1)
            client.connect(("127.0.0.1", port))
            accepted, _ = listener.accept()
        except OSError:
            return False
        accepted.close()
    return True
