"""One question to all nodes at once: what the resources have in common of which the nodes know."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import msgspec

from master.api.request import Exchange
from ringmaster.cluster.view import View
from ringmaster.errors import RingmasterError
from ringmaster.runtime.cluster_clock import ClusterClock

_T = TypeVar("_T")

ANSWER_S: Final = 2.0
"""How long to wait for nodes where who does not answer is named: the others are not held up."""


class AskLink(Protocol):
    """What this needs of `ringmaster.net.link.Link`."""

    async def request(self, frame: bytes, timeout_s: float) -> object:
        """The reply. Raises `RingmasterError`."""


class NodesApi:
    """A resource of which the nodes know. `link_of(node)`: the link to it, None if there is none."""

    def __init__(
        self,
        view: Callable[[], View],
        link_of: Callable[[str], AskLink | None],
        clock: ClusterClock,
    ) -> None:
        self._view = view
        self._link_of = link_of
        self._clock = clock

    async def _ask_all(
        self,
        exchange: Exchange,
        frame: bytes,
        decode: Callable[[bytes], _T],
        most_s: float = math.inf,
    ) -> dict[str, _T | None]:
        """The answer of every node that is up; None from those that gave none in time, or none that can be read.

        They have until the deadline of the request, `most_s` at most.
        """
        timeout_s = min(most_s, max(0.001, exchange.deadline() - self._clock.boottime()))

        async def ask(node: str) -> _T | None:
            link = self._link_of(node)
            try:
                raw = None if link is None else await link.request(frame, timeout_s)
                return decode(raw) if isinstance(raw, bytes) else None
            except (RingmasterError, msgspec.DecodeError):
                return None

        nodes = [node for node, info in self._view().nodes.items() if info.up]
        return dict(zip(nodes, await asyncio.gather(*map(ask, nodes)), strict=True))
