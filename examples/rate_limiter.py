"""A rate limiter that all processes of a service share: so many calls in a window, counted by the cluster.

    make up                                       # in a first terminal
    .venv/bin/python -m examples.rate_limiter     # in a second one: 5 calls in 2 s are allowed, 8 are tried

The counter of a caller is one key. `POST /data/{key}?incr=1&ttl=2` makes it with a life of 2 s if it is absent and adds 1;
later calls add to it and leave its expiry alone. So a window begins with a caller's first call and ends by itself,
and no two machines need to agree on the time. Increments are atomic and are kept in a failover, so a node that dies
gives nobody new calls. Around the end of a window up to twice the limit can pass in a short time, as with every fixed window.
"""

from __future__ import annotations

import asyncio
import os
import sys
from urllib.parse import quote

from ringmaster.client import AsyncClient, token_from_environment


class RateLimiter:
    """At most `limit` calls of each caller in a window of `window_s`."""

    def __init__(self, cache: AsyncClient, limit: int, window_s: float) -> None:
        self._cache = cache
        self._limit = limit
        self._window_s = window_s

    async def allows(self, caller: str) -> bool:
        """Count one call of `caller`; whether it is within the limit.

        Raises `RingmasterError` if the cluster gave no answer. Whether that means yes or no is up to who asks: the call may
        have been counted, or not.
        """
        key = quote(f"calls/{caller}", safe="")
        reply = await self._cache.request("POST", f"/data/{key}?incr=1&ttl={self._window_s}")
        return int(reply.json()["value"]) <= self._limit


async def main() -> None:
    """Show it."""
    url = os.environ.get("RINGMASTER_URL", "http://127.0.0.1:8080")
    async with AsyncClient(url, timeout_s=2.0, token=token_from_environment()) as cache:
        limiter = RateLimiter(cache, limit=5, window_s=2.0)
        for number in range(1, 9):
            allowed = await limiter.allows("ada")
            sys.stdout.write(f"call {number}: {'allowed' if allowed else 'refused'}\n")


if __name__ == "__main__":
    asyncio.run(main())
