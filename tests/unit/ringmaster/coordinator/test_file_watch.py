from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from ringmaster.coordinator.file_watch import (
    EAGER_S,
    LOOK_S,
    POLL_S,
    REST_POLL_S,
    SLOW_S,
    FileWatch,
    Looks,
)
from tests.unit.fake_wire import until


class HandLoop:
    """Timers that run when time is moved by hand; as much of a loop as `Looks` needs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> HandTimer:
        self.timers.append((self.now + delay, callback))
        return HandTimer(self, self.timers[-1])

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= until]:
            timer = min(due, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = timer[0]
            timer[1]()
        self.now = until


class HandTimer:
    def __init__(self, loop: HandLoop, timer: tuple[float, Callable[[], None]]) -> None:
        self._loop = loop
        self._timer = timer

    def cancel(self) -> None:
        if self._timer in self._loop.timers:
            self._loop.timers.remove(self._timer)


class World:
    """`looks.look` is counted in `at`; the system tells of writes if `tells`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, tells: bool) -> None:
        # The system's own answer would depend on the machine.
        monkeypatch.setattr(FileWatch, "watch", lambda watch, path: tells)
        self.loop = HandLoop()
        self.at: list[float] = []
        self.waits = True
        self.looks = Looks(self.loop, self.look)  # type: ignore[arg-type]
        self.looks.watch("log")

    def look(self) -> bool:
        self.at.append(self.loop.now)
        return self.waits

    def looks_in(self, seconds: float) -> int:
        before = len(self.at)
        self.loop.run(seconds)
        return len(self.at) - before


def test_at_rest_there_are_few_looks_if_the_system_tells_of_writes(monkeypatch):
    world = World(monkeypatch, tells=True)
    world.looks.begin()
    world.loop.run(1.0)
    assert 4 <= world.looks_in(1.0) <= 1 / POLL_S + 1
    world.loop.run(SLOW_S)
    assert 9 <= world.looks_in(10.0) <= 10 / REST_POLL_S + 1


def test_after_a_write_there_are_looks_for_a_very_slow_sync(monkeypatch):
    world = World(monkeypatch, tells=True)
    world.looks.begin()
    world.loop.run(2 * SLOW_S)
    world.looks._written()
    world.loop.run(SLOW_S / 2)
    assert world.looks_in(1.0) >= 1 / POLL_S - 1


def test_without_the_system_s_word_there_is_a_look_as_often_as_before(monkeypatch):
    world = World(monkeypatch, tells=False)
    world.looks.begin()
    world.loop.run(1.0)
    assert world.looks_in(1.0) >= 0.9 / LOOK_S


def test_after_a_write_there_are_looks_at_once_and_until_a_slow_sync_is_over(monkeypatch):
    world = World(monkeypatch, tells=True)
    world.looks.begin()
    world.loop.run(1.0)
    before = len(world.at)
    written = world.loop.now
    world.looks._written()
    world.loop.run(EAGER_S + LOOK_S)
    since = [at - written for at in world.at[before:]]
    assert since[0] < 0.002
    assert since[-1] >= EAGER_S
    assert all(later - earlier <= LOOK_S + 1e-9 for earlier, later in pairwise(since))
    assert len(since) < 15


def test_once_the_commit_is_found_the_looks_are_fewer(monkeypatch):
    world = World(monkeypatch, tells=True)
    world.looks.begin()
    world.loop.run(1.0)
    world.looks._written()
    world.loop.run(0.0015)
    world.looks.found()
    assert world.looks_in(EAGER_S) <= EAGER_S / LOOK_S + 1


def test_looking_ends_when_nobody_waits_and_begins_again(monkeypatch):
    world = World(monkeypatch, tells=True)
    world.looks.begin()
    world.looks.begin()
    assert len(world.at) == 1
    world.waits = False
    world.loop.run(1.0)
    assert world.looks_in(10.0) == 0
    assert world.loop.timers == []
    world.waits = True
    world.looks.begin()
    assert world.looks_in(1.0) > 0
    world.looks.close()
    assert world.looks_in(10.0) == 0


async def test_a_write_to_the_watched_file_is_told_and_others_are_not(tmp_path: Path) -> None:
    path, other = tmp_path / "log", tmp_path / "other"
    path.write_bytes(b"")
    told: list[None] = []
    watch = FileWatch(asyncio.get_running_loop(), lambda: told.append(None))
    if not watch.watch(str(path)):
        pytest.skip("this system has no inotify, or no more of it")
    other.write_bytes(b"x")
    with path.open("ab") as file:
        file.write(b"x")
    await until(lambda: bool(told))
    watch.close()
    watch.close()
    assert not watch.watch(str(tmp_path / "absent"))
