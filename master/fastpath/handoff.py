"""A connection lent to aiohttp for one request whose size is known, and taken back after its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Borrower(Protocol):
    """The protocol that answers instead: `master.api.protocol.HttpProtocol`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def connection_lost(self, exc: BaseException | None) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def detach(self) -> None:
        """Let go of the connection, which stays open."""


Fallback = Callable[[Callable[[], None] | None], Borrower]
"""Makes a borrower that calls back after its reply; without a callback it closes the connection then."""


class Loan:
    """`borrower` gets exactly `size` bytes; `on_return` is called after its reply, from its task."""

    __slots__ = ("borrower", "owed")

    def __init__(
        self,
        transport: asyncio.Transport,
        fallback: Fallback,
        size: int,
        on_return: Callable[[Loan], None],
    ) -> None:
        self.owed = size
        self.borrower = fallback(lambda: on_return(self))
        self.borrower.connection_made(transport)

    def feed(self, data: bytes) -> bytes:
        """Pass on what belongs to the request; returns the rest."""
        if not self.owed:
            return data
        own, rest = data[: self.owed], data[self.owed :]
        self.owed -= len(own)
        self.borrower.data_received(own)
        return rest
