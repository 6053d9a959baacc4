"""The vocabulary of command handlers: what a handler gets, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from aux.replication.pending import Waiter


class Client(Protocol):
    """The connection a command came on. `is_shared`: many requests wait behind each reply, so none may be large."""

    is_shared: bool

    def waiter(self) -> Waiter:
        """Takes the place of this command's reply; later replies queue behind it."""


Command = Sequence[bytes]
"""The command's name and its arguments."""

Handler = Callable[[Client, Command], bytes | None]
"""Returns the reply, or None if a waiter of the client will bring it."""
