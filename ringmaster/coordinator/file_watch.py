"""When to look whether a SQLite file was committed to by another process.

What a look costs is not the question but being woken up for it: 0.1 ms of a processor. So the system tells of writes
to the file's log (inotify). A commit writes there first and is visible a moment later, once the log is synced: after a
write there are looks at short, growing intervals, then every `POLL_S`, for a sync that takes long, and at rest only every
`REST_POLL_S`, for whatever was not told. Where the system cannot tell of writes there is a look every `LOOK_S`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from typing import Final

LOOK_S: Final = 0.02
"""How late a change is noticed, if the machine is idle and a commit takes less than `EAGER_S`."""

POLL_S: Final = 0.2
"""How late it is noticed at most, after it is visible, if that takes less than `SLOW_S` from the write."""

SLOW_S: Final = 10.0
REST_POLL_S: Final = 1.0
"""How late it is noticed at most where all else fails."""

EAGER_S: Final = 0.1
FIRST_S: Final = 0.001

_MODIFY: Final = 0x002
_ATTRIB: Final = 0x004
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800


class FileWatch:
    """Calls `on_write` from `loop` after writes to one file; many writes may be told as one. Belongs to that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_write: Callable[[], None]) -> None:
        self._loop = loop
        self._on_write = on_write
        self._descriptor = -1

    def watch(self, path: str) -> bool:
        """Watch `path` from now on, and nothing else. False: the system cannot (no inotify, a limit, no such file)."""
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
        self._loop.add_reader(descriptor, self._readable)
        return True

    def close(self) -> None:
        """Stop. Idempotent."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _readable(self) -> None:
        try:
            os.read(
                self._descriptor, 65536
            )  # what happened does not matter; the rest comes next time
        except BlockingIOError:
            return
        self._on_write()


class Looks:
    """Calls `look` from `loop` when there may be something new, until it says that nobody waits any more.

    A look that comes while one is under way may do nothing: there is always a later one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[], bool]) -> None:
        self._loop = loop
        self._look = look
        self._watch = FileWatch(loop, self._written)
        self._log = ""
        self._is_told = False
        self._timer: asyncio.TimerHandle | None = None
        self._pause = LOOK_S
        self._written_at = 0.0

    def begin(self) -> None:
        """Look from now on. Does nothing if it does already."""
        if self._timer is None:
            self._begin_watch()
            self._turn()

    def watch(self, log: str) -> None:
        """`log` is what a commit writes to first; called again when the file was opened anew."""
        self._log = log
        if self._timer is not None:
            self._begin_watch()

    def found(self) -> None:
        """A look found something new: what was written is visible, so there is no more hurry. Another may follow."""
        self._pause = LOOK_S

    def close(self) -> None:
        """Stop. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watch.close()

    def _begin_watch(self) -> None:
        self._is_told = bool(self._log) and self._watch.watch(self._log)
        # A commit may be past its write and not visible yet.
        self._written_at = self._loop.time()

    def _written(self) -> None:
        self._written_at = self._loop.time()
        self._pause = FIRST_S
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(FIRST_S, self._turn)

    def _turn(self) -> None:
        self._timer = None
        if not self._look():
            self._watch.close()
            return
        self._pause = min(2 * self._pause, LOOK_S)
        self._timer = self._loop.call_later(self._pause_s(), self._turn)

    def _pause_s(self) -> float:
        since_s = self._loop.time() - self._written_at
        if not self._is_told or since_s < EAGER_S:
            return self._pause
        return POLL_S if since_s < SLOW_S else REST_POLL_S
