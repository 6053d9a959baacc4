"""When to poll a SQLite file for commits of other processes.

The poll itself is cheap; waking the process up for it is not (0.1 ms of processor time). So inotify reports writes to
the write-ahead log. A commit writes there first and becomes visible a moment later, once the log is synced. After a write
the file is polled at short, growing intervals, then every `SYNC_POLL_S` in case the sync is slow, and when idle only every
`IDLE_POLL_S`, in case a write was not reported. Without inotify it is polled every `SHORT_POLL_S`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from typing import Final

FIRST_POLL_S: Final = 0.001
"""From a write to the first poll."""

SHORT_POLL_S: Final = 0.02
"""The longest interval for `BURST_S` after a write: how late a commit that syncs within that time is noticed."""

BURST_S: Final = 0.1
SYNC_POLL_S: Final = 0.2
"""The interval after that, until `MAX_SYNC_S` after the write."""

MAX_SYNC_S: Final = 10.0
IDLE_POLL_S: Final = 1.0
"""The interval from then on: how late a commit is noticed if inotify does not report its write."""

_MODIFY: Final = 0x002
_ATTRIB: Final = 0x004
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800


class FileWatch:
    """Calls `on_write` from `loop` after writes to one file, once for several. Belongs to that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_write: Callable[[], None]) -> None:
        self._loop = loop
        self._on_write = on_write
        self._descriptor = -1

    def watch(self, path: str) -> bool:
        """Watch `path` instead of the file before. False if that fails: no inotify, its limit reached, no such file."""
        self.close()
        libc = ctypes.CDLL(None)
        if not hasattr(libc, "inotify_init1"):
            return False
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            return False
        mask = _MODIFY | _ATTRIB | _DELETE_SELF | _MOVE_SELF
        if libc.inotify_add_watch(descriptor, os.fsencode(path), mask) < 0:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        self._loop.add_reader(descriptor, self._on_readable)
        return True

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _on_readable(self) -> None:
        try:
            # What the events say does not matter. Whatever is left unread makes the descriptor readable again.
            os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        self._on_write()


class PollTimer:
    """Calls `poll` from `loop` when there may be a new commit, until `poll` returns False: nobody waits for one.

    `poll` may do nothing while an earlier one is under way: a later one always follows.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, poll: Callable[[], bool]) -> None:
        self._loop = loop
        self._poll = poll
        self._watch = FileWatch(loop, self._on_write)
        self._log_path = ""
        self._is_watching = False
        self._timer: asyncio.TimerHandle | None = None
        self._burst_interval_s = SHORT_POLL_S
        self._written_at = 0.0

    def start(self) -> None:
        """Poll now and from now on. Does nothing if it is running."""
        if self._timer is None:
            self._begin_watch()
            self._fire()

    def watch(self, log_path: str) -> None:
        """`log_path` is the write-ahead log. Call this again whenever the database is opened anew."""
        self._log_path = log_path
        if self._timer is not None:
            self._begin_watch()

    def found(self) -> None:
        """A poll found a commit: what was written is visible, so end the burst of short intervals."""
        self._burst_interval_s = SHORT_POLL_S

    def close(self) -> None:
        """Stop. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watch.close()

    def _begin_watch(self) -> None:
        self._is_watching = bool(self._log_path) and self._watch.watch(self._log_path)
        # A commit may have been written already and not be visible yet.
        self._written_at = self._loop.time()

    def _on_write(self) -> None:
        self._written_at = self._loop.time()
        self._burst_interval_s = FIRST_POLL_S
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(FIRST_POLL_S, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if not self._poll():
            self._watch.close()
            return
        self._burst_interval_s = min(2 * self._burst_interval_s, SHORT_POLL_S)
        self._timer = self._loop.call_later(self._interval_s(), self._fire)

    def _interval_s(self) -> float:
        since_write_s = self._loop.time() - self._written_at
        if not self._is_watching or since_write_s < BURST_S:
            return self._burst_interval_s
        return SYNC_POLL_S if since_write_s < MAX_SYNC_S else IDLE_POLL_S
