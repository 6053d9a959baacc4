"""A running master follows its tokens file: changes and SIGHUP; a broken file changes nothing and is counted."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from master.token_watch import TokenWatch
from ringmaster.access.grant import Grant, digest_of, make_grant
from ringmaster.access.token_file import add_token, remove_token
from ringmaster.errors import SettingsError


class Watched:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.watch = TokenWatch(path, self.adopt)

    def adopt(self, grants: Sequence[Grant]) -> None:
        self.names = [each.name for each in grants]

    def add(self, name: str) -> None:
        add_token(self.path, make_grant(name, digest_of(name), ["read"]))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - the file system has no event for it
                await asyncio.sleep(0.002)


@pytest_asyncio.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    watched = Watched(tmp_path / "tokens.toml")
    watched.add("a")
    watched.watch.load()
    task = asyncio.create_task(watched.watch.run(poll_s=0.005))
    yield watched
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_first_file_must_be_good(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        Watched(tmp_path / "none.toml").watch.load()


async def test_a_change_is_noticed(watched: Watched) -> None:
    assert watched.names == ["a"]
    watched.add("b")
    await watched.until(lambda: watched.names == ["a", "b"])
    remove_token(watched.path, "a")
    await watched.until(lambda: watched.names == ["b"])
    assert watched.watch.failures == 0


async def test_a_broken_file_keeps_the_tokens_and_is_counted_once(watched: Watched) -> None:
    watched.path.write_text("nonsense")
    await watched.until(lambda: watched.watch.failures > 0)
    await asyncio.sleep(0.05)
    assert (watched.watch.failures, watched.names) == (1, ["a"])
    watched.path.unlink()
    await watched.until(lambda: watched.watch.failures == 2)
    watched.add("c")
    await watched.until(lambda: watched.names == ["c"])


async def test_a_file_that_others_may_read_from_now_on_is_broken(watched: Watched) -> None:
    watched.path.chmod(0o644)
    await watched.until(lambda: watched.watch.failures == 1)
    assert watched.names == ["a"]
    watched.path.chmod(0o600)
    await watched.until(lambda: watched.watch.reloads == 1)


async def test_when_asked_it_reads_the_file_changed_or_not(watched: Watched) -> None:
    watched.watch.reload()
    await watched.until(lambda: watched.watch.reloads == 1)


async def test_a_file_that_replaces_it_with_the_same_times_is_another_one(watched: Watched) -> None:
    before = watched.path.stat()
    other = watched.path.with_name("other.toml")
    other.write_text(watched.path.read_text().replace('tokens."a"', 'tokens."z"'))
    other.chmod(0o600)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(watched.path)
    await watched.until(lambda: watched.names == ["z"])
