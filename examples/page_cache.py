"""A page cache without stampedes: however many callers miss at once, in however many processes, one renders the page.

    make up                                     # in a first terminal
    .venv/bin/python -m examples.page_cache     # in a second one: 20 callers, 1 rendering

`get_or_set` does the work: the first who misses gets the right to write the page, the others wait for it. If the one who renders fails or
goes away, the next takes over. A page that is older than `ttl_s` is served for another `stale_s` while one caller renders it anew.
All pages carry the tag of their section, and one invalidation has all of these rendered again.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable

from ringmaster.client import AsyncClient, token_from_environment

Render = Callable[[str], Awaitable[bytes]]


class PageCache:
    """Pages by path, rendered by `render` when they are not there or too old. Errors of the cluster are raised."""

    def __init__(
        self,
        cache: AsyncClient,
        render: Render,
        *,
        ttl_s: float = 60.0,
        stale_s: float = 600.0,
        wait_s: int = 10,
    ) -> None:
        self._cache = cache
        self._render = render
        self._ttl_s = ttl_s
        self._stale_s = stale_s
        self._wait_s = wait_s

    async def get(self, path: str) -> bytes:
        """The page."""
        return await self._cache.get_or_set(
            f"page{path}",
            lambda: self._render(path),
            self._ttl_s,
            self._stale_s,
            tags=[_section(path)],
            content_type="text/html",
            wait_s=self._wait_s,
        )

    async def changed(self, path: str) -> None:
        """Something in the section of `path` has changed: none of its pages is served any more."""
        await self._cache.invalidate(_section(path))


def _section(path: str) -> str:
    """The tag of the pages below the first segment of `path`."""
    return f"section/{path.split('/')[1]}"


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
        pages = PageCache(cache, render, ttl_s=2.0, stale_s=2.0)
        got = await asyncio.gather(*(pages.get("/front") for _ in range(20)))
    sys.stdout.write(f"{len(got)} callers, {len(set(got))} page, {renderings} renderings\n")


if __name__ == "__main__":
    asyncio.run(main())
