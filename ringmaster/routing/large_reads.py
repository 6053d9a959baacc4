"""Reads of large values: by a link of their own, few at a time, so that no small reply waits behind one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ringmaster.errors import DeadlineExceeded, RingmasterError
from ringmaster.protocol.resp import Reply, bulk_head
from ringmaster.routing.links import NodeLinks
from ringmaster.routing.scatter_gather import NO_PRIMARY
from ringmaster.routing.table import Route
from ringmaster.runtime.clock import Clock

MOST_LARGE: Final = 2
"""Large values on their way at one time: one comes while the other is passed on. Each holds up the loop for some milliseconds."""


class LargeReads:
    """Those of one router. `route_of`: where the requests for a key go now."""

    __slots__ = ("_clock", "_links", "_room", "_route_of")

    def __init__(
        self, clock: Clock, links: NodeLinks, route_of: Callable[[bytes], Route | None]
    ) -> None:
        self._clock = clock
        self._links = links
        self._route_of = route_of
        self._room = asyncio.Semaphore(MOST_LARGE)

    async def read(self, keys: Sequence[bytes], within_s: float) -> list[Reply]:
        """The reply for the one of `keys`, by the link for large values, when it is its turn."""
        deadline = self._clock.boottime() + within_s
        try:
            async with asyncio.timeout(within_s), self._room:
                route = self._route_of(keys[0])
                link = None if route is None else self._links.large_of(route.owner)
                if route is None or link is None:
                    return [NO_PRIMARY]
                frame = b"%b%b%b\r\n" % (route.get, bulk_head(len(keys[0])), keys[0])
                return [await link.request(frame, deadline - self._clock.boottime())]
        except TimeoutError:
            return [DeadlineExceeded(f"{MOST_LARGE} other large values at a time come first")]
        except RingmasterError as error:
            return [error]
