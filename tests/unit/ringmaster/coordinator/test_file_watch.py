from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from ringmaster.coordinator.file_watch import (
    BURST_S,
    IDLE_POLL_S,
    MAX_SYNC_S,
    SHORT_POLL_S,
    SYNC_POLL_S,
    FileWatch,
    PollTimer,
)
from tests.unit.fake_wire import until


class HandLoop:
    """A loop whose time is moved by hand, with as much of its interface as `PollTimer` needs."""

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


class Polls:
    """A running `PollTimer` that polls at the times in `at`. `inotify`: whether writes are reported."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, inotify: bool) -> None:
        # Whether the real one works depends on the machine.
        monkeypatch.setattr(FileWatch, "watch", lambda watch, path: inotify)
        self.loop = HandLoop()
        self.at: list[float] = []
        self.anybody_waits = True
        self.timer = PollTimer(self.loop, self.poll)  # type: ignore[arg-type]
        self.timer.watch("log")
        self.timer.start()

    def poll(self) -> bool:
        self.at.append(self.loop.now)
        return self.anybody_waits

    def count_in(self, seconds: float) -> int:
        before = len(self.at)
        self.loop.run(seconds)
        return len(self.at) - before


def test_when_idle_there_are_few_polls_if_writes_are_reported(monkeypatch):
    polls = Polls(monkeypatch, inotify=True)
    polls.loop.run(1.0)
    assert 4 <= polls.count_in(1.0) <= 1 / SYNC_POLL_S + 1
    polls.loop.run(MAX_SYNC_S)
    assert 9 <= polls.count_in(10.0) <= 10 / IDLE_POLL_S + 1


def test_polls_go_on_after_a_write_in_case_the_sync_is_very_slow(monkeypatch):
    polls = Polls(monkeypatch, inotify=True)
    polls.loop.run(2 * MAX_SYNC_S)
    polls.timer._on_write()
    polls.loop.run(MAX_SYNC_S / 2)
    assert polls.count_in(1.0) >= 1 / SYNC_POLL_S - 1


def test_without_inotify_the_interval_stays_short(monkeypatch):
    polls = Polls(monkeypatch, inotify=False)
    polls.loop.run(1.0)
    assert polls.count_in(1.0) >= 0.9 / SHORT_POLL_S


def test_after_a_write_there_is_a_burst_of_polls(monkeypatch):
    polls = Polls(monkeypatch, inotify=True)
    polls.loop.run(1.0)
    before = len(polls.at)
    written_at = polls.loop.now
    polls.timer._on_write()
    polls.loop.run(BURST_S + SHORT_POLL_S)
    since = [at - written_at for at in polls.at[before:]]
    assert since[0] < 0.002
    assert since[-1] >= BURST_S
    assert all(later - earlier <= SHORT_POLL_S + 1e-9 for earlier, later in pairwise(since))
    assert len(since) < 15


def test_the_burst_ends_when_the_commit_is_found(monkeypatch):
    polls = Polls(monkeypatch, inotify=True)
    polls.loop.run(1.0)
    polls.timer._on_write()
    polls.loop.run(0.0015)
    polls.timer.found()
    assert polls.count_in(BURST_S) <= BURST_S / SHORT_POLL_S + 1


def test_polling_stops_when_nobody_waits_and_can_be_started_again(monkeypatch):
    polls = Polls(monkeypatch, inotify=True)
    polls.timer.start()
    assert len(polls.at) == 1
    polls.anybody_waits = False
    polls.loop.run(1.0)
    assert polls.count_in(10.0) == 0
    assert polls.loop.timers == []
    polls.anybody_waits = True
    polls.timer.start()
    assert polls.count_in(1.0) > 0
    polls.timer.close()
    assert polls.count_in(10.0) == 0


async def test_writes_to_the_watched_file_are_reported_and_no_others(tmp_path: Path) -> None:
    path, other = tmp_path / "log", tmp_path / "other"
    path.write_bytes(b"")
    reports: list[None] = []
    watch = FileWatch(asyncio.get_running_loop(), lambda: reports.append(None))
    if not watch.watch(str(path)):
        pytest.skip("this system has no inotify, or its limit is reached")
    other.write_bytes(b"x")
    with path.open("ab") as file:
        file.write(b"x")
    await until(lambda: bool(reports))
    watch.close()
    watch.close()
    assert not watch.watch(str(tmp_path / "absent"))
