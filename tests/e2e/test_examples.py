"""The programs in `examples/` against a real cluster, and as their docstrings say."""

from __future__ import annotations

import asyncio
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.cache_aside import _store_if_absent
from examples.page_cache import PageCache
from examples.rate_limiter import RateLimiter
from ringmaster.client import AsyncClient
from tests.e2e.cluster import ROOT, Cluster
from tests.e2e.waiting import accepts, free_port, until, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def run(cluster: Cluster, name: str) -> str:
    """What the example prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"],
        cwd=ROOT, env={**os.environ, "RINGMASTER_URL": cluster.url}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Cache-aside


@pytest.fixture
def bookshop(shared_cluster: Cluster, tmp_path: Path) -> Iterator[int]:
    """The port of the FastAPI service."""
    port = free_port()
    log = tmp_path / "uvicorn.log"
    with log.open("wb") as output:
        service = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "examples.cache_aside:app", "--port", str(port)],
            cwd=ROOT, env={**os.environ, "RINGMASTER_URL": shared_cluster.url},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        wait_until(lambda: accepts(port) or service.poll() is not None, "the service listens", 30)
        assert service.poll() is None, log.read_text()
        yield port
    finally:
        service.terminate()
        service.wait(20)


def ask(port: int, method: str, target: str) -> tuple[int, str | None, bytes]:
    """Status, `X-Cache` and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, target)
        reply = connection.getresponse()
        return reply.status, reply.headers["X-Cache"], reply.read()
    finally:
        connection.close()


def test_a_book_is_loaded_once_and_a_new_price_is_seen_at_once(bookshop: int) -> None:
    old, new = b'{"title":"Middlemarch","cents":1290}', b'{"title":"Middlemarch","cents":990}'
    assert ask(bookshop, "GET", "/books/1") == (200, "miss", old)
    assert ask(bookshop, "GET", "/books/1") == (200, "hit", old)
    assert ask(bookshop, "PUT", "/books/1/price?cents=990") == (200, "stored", new)
    assert ask(bookshop, "GET", "/books/1") == (200, "hit", new)
    assert ask(bookshop, "GET", "/books/3")[0] == 404


async def test_a_slow_reader_does_not_put_back_what_was_changed_meanwhile(
    shared_cluster: Cluster,
) -> None:
    async with AsyncClient(shared_cluster.url) as cache:
        await cache.post("book/7", b'"new"')
        await _store_if_absent(cache, "book/7", b'"old"')
        assert await cache.get("book/7") == b'"new"'


# The rate limiter


async def test_calls_beyond_the_limit_are_refused_until_the_window_ends(
    shared_cluster: Cluster,
) -> None:
    async with AsyncClient(shared_cluster.url) as cache:
        limiters = [RateLimiter(cache, limit=5, window_s=1.0) for _ in range(2)]
        answers = await asyncio.gather(*(limiters[n % 2].allows("grace/1") for n in range(12)))
        assert answers.count(True) == 5
        assert await limiters[0].allows("somebody else")

        async def counter() -> bytes | None:
            return await cache.get("calls/grace/1")

        deadline = asyncio.get_running_loop().time() + 10
        while await counter() is not None:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
        assert await limiters[0].allows("grace/1")


def test_the_rate_limiter_runs(shared_cluster: Cluster) -> None:
    lines = run(shared_cluster, "rate_limiter").splitlines()
    assert [line.split()[-1] for line in lines] == ["allowed"] * 5 + ["refused"] * 3


# The page cache


class Renderer:
    """Counts what it renders; each rendering waits until it is let go."""

    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()

    async def __call__(self, path: str) -> bytes:
        self.count += 1
        await self.go.wait()
        return b"<h1>%b</h1>" % path.encode()


async def test_twenty_callers_that_miss_at_once_cause_one_rendering(
    shared_cluster: Cluster,
) -> None:
    render = Renderer()
    async with AsyncClient(shared_cluster.url) as one, AsyncClient(shared_cluster.url) as two:
        caches = [PageCache(one, render), PageCache(two, render)]
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(caches[n % 2].get("/twenty")) for n in range(20)]
            await until(lambda: render.count, "one renders")
            render.go.set()
        assert {caller.result() for caller in callers} == {b"<h1>/twenty</h1>"}
        assert render.count == 1
        assert await caches[0].get("/twenty") == b"<h1>/twenty</h1>"
        assert render.count == 1


async def test_who_renders_and_fails_leaves_the_page_to_the_next(shared_cluster: Cluster) -> None:
    async def fail(_path: str) -> bytes:
        raise ValueError("no template")

    render = Renderer()
    render.go.set()
    async with AsyncClient(shared_cluster.url) as cache:
        with pytest.raises(ValueError, match="no template"):
            await PageCache(cache, fail).get("/fails")
        page = await PageCache(cache, render).get("/fails")
    assert (page, render.count) == (b"<h1>/fails</h1>", 1)


async def test_an_old_page_is_served_while_one_caller_renders_a_new_one(
    shared_cluster: Cluster,
) -> None:
    render = Renderer()
    render.go.set()
    async with AsyncClient(shared_cluster.url) as cache:
        pages = PageCache(cache, render, ttl_s=0.2)
        await pages.get("/old")
        await asyncio.sleep(0.3)
        render.go.clear()
        first = asyncio.create_task(pages.get("/old"))
        await until(lambda: render.count == 2, "one renders")
        assert (
            await asyncio.gather(*(pages.get("/old") for _ in range(5))) == [b"<h1>/old</h1>"] * 5
        )
        render.go.set()
        await first
    assert render.count == 2


async def test_a_change_has_all_pages_of_its_section_rendered_again(
    shared_cluster: Cluster,
) -> None:
    render = Renderer()
    render.go.set()
    async with AsyncClient(shared_cluster.url) as cache:
        pages = PageCache(cache, render)
        for path in ("/news/1", "/news/2", "/shop/1"):
            await pages.get(path)
        await pages.changed("/news/1")
        for path in ("/news/1", "/news/2", "/shop/1"):
            await pages.get(path)
    assert render.count == 5


def test_the_page_cache_runs(shared_cluster: Cluster) -> None:
    assert run(shared_cluster, "page_cache") == "20 callers, 1 page, 1 renderings\n"
