"""One question to all nodes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from ringmaster.cluster.view import View
from ringmaster.errors import RingmasterError

_T = TypeVar("_T")


class AskLink(Protocol):
    """What this needs of `ringmaster.net.link.Link`."""

    async def request(self, frame: bytes, timeout_s: float) -> object:
        """The reply. Raises `RingmasterError`."""


async def ask_nodes(
    view: View,
    link_of: Callable[[str], AskLink | None],
    frame: bytes,
    decode: Callable[[bytes], _T],
    timeout_s: float,
) -> dict[str, _T | None]:
    """The answer of every node that is up, within `timeout_s`; None from those that gave none, or none that can be read."""

    async def ask(node: str) -> _T | None:
        link = link_of(node)
        try:
            raw = None if link is None else await link.request(frame, timeout_s)
            return decode(raw) if isinstance(raw, bytes) else None
        except (RingmasterError, msgspec.DecodeError):
            return None

    nodes = [node for node, info in view.nodes.items() if info.up]
    return dict(zip(nodes, await asyncio.gather(*map(ask, nodes)), strict=True))
