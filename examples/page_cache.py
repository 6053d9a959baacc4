"""A page cache without stampedes: however many callers miss at once, in however many processes, one renders the page.

    make up                                     # in a first terminal
    .venv/bin/python -m examples.page_cache     # in a second one: 20 callers, 1 rendering

Who misses tries to create a short-lived lock key with `If-None-Match: *`, which the node that holds the key grants to one
caller only. The others look again every `POLL_S` until the page is there. If the one who renders dies, its lock expires
after `lock_s` and another takes over. So if rendering takes longer than `lock_s`, a page may be rendered twice; and who has waited for
`wait_s` renders for itself, since a slow page is better than none. Neither does harm: both store a page that is good.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from ringmaster.client import AsyncClient, token_from_environment

POLL_S = 0.02

Render = Callable[[str], Awaitable[bytes]]


class PageCache:
    """Pages by path, rendered by `render` when they are not there or older than `ttl_s`. Errors of the cluster are raised."""

    def __init__(
        self,
        cache: AsyncClient,
        render: Render,
        *,
        ttl_s: float = 60.0,
        lock_s: float = 5.0,
        wait_s: float = 10.0,
    ) -> None:
        self._cache = cache
        self._render = render
        self._ttl_s = ttl_s
        self._lock_s = lock_s
        self._wait_s = wait_s

    async def get(self, path: str) -> bytes:
        """The page."""
        give_up_at = time.monotonic() + self._wait_s
        while time.monotonic() < give_up_at:
            page = await self._cache.get(f"page{path}")
            if page is not None:
                return page
            lock = await self._lock(path)
            if lock is not None:
                try:
                    return await self._fill(path)
                finally:
                    await self._unlock(path, lock)
            await asyncio.sleep(POLL_S)
        return await self._render(path)

    async def _fill(self, path: str) -> bytes:
        """Between our look and our lock another may have stored the page and gone: look again first."""
        page = await self._cache.get(f"page{path}")
        if page is None:
            page = await self._render(path)
            await self._cache.put(f"page{path}", page, content_type="text/html", ttl_s=self._ttl_s)
        return page

    async def _lock(self, path: str) -> str | None:
        """The ETag of the lock, if it is ours; None if another has it."""
        target = f"{_lock_target(path)}?ttl={self._lock_s}"
        reply = await self._cache.request("PUT", target, b"rendering", {"If-None-Match": "*"})
        return reply.headers["etag"] if reply.status == 201 else None

    async def _unlock(self, path: str, lock: str) -> None:
        """Only if it is still ours: it may have expired, and be another's by now."""
        await self._cache.request("DELETE", _lock_target(path), headers={"If-Match": lock})


def _lock_target(path: str) -> str:
    return f"/data/{quote(f'lock{path}', safe='')}"


async def main() -> None:
    """Show it."""
    renderings = 0

    async def render(path: str) -> bytes:
        nonlocal renderings
        renderings += 1
        await asyncio.sleep(0.3)
        return f"<h1>{path} at {time.time():.1f}</h1>".encode()

    url = os.environ.get("RINGMASTER_URL", "http://127.0.0.1:8080")
    async with AsyncClient(url, timeout_s=5.0, token=token_from_environment()) as cache:
        pages = PageCache(cache, render, ttl_s=2.0)
        got = await asyncio.gather(*(pages.get("/front") for _ in range(20)))
    sys.stdout.write(f"{len(got)} callers, {len(set(got))} page, {renderings} renderings\n")


if __name__ == "__main__":
    asyncio.run(main())
