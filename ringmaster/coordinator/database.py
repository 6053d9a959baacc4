"""A key-value store with versions in one SQLite file, used from an event loop through one thread.

Each file has its own thread, so a stalled fsync of one file never delays another. While anybody waits for a change, the
thread polls for commits of other processes (`PRAGMA data_version`, a read of shared memory) when `file_watch.py` says so.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from ringmaster.coordinator import Commit, Record
from ringmaster.coordinator.file_watch import PollTimer
from ringmaster.errors import CoordinatorError, CoordinatorUnavailable

_MAX_JOBS: Final = 256
_BUSY_TIMEOUT_MS: Final = 20
_CLOSE_S: Final = 2.0

_SCHEMA: Final = """
CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE revision (value INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
"""

_RANGE: Final = "SELECT key, value, version FROM kv WHERE key >= ? AND key < ?"

_EXPLANATIONS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_READONLY: "the file is read-only",
    sqlite3.SQLITE_IOERR: "reading or writing failed",
    sqlite3.SQLITE_PERM: "access is denied",
}

T = TypeVar("T")


def create(path: Path) -> None:
    """Create an empty database at `path` atomically, replacing what is there. Raises `OSError`, `sqlite3.Error`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    remove(temporary)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(_open(temporary)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
    remove(path)
    temporary.replace(path)


def remove(path: Path) -> None:
    """Delete the database at `path`, if there is one, with its log and shared-memory file."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def is_usable(path: Path) -> bool:
    """Whether `path` is a database of this kind and passes SQLite's quick check."""
    if not path.is_file():
        return False
    try:
        with closing(_open(path)) as connection:
            connection.execute("SELECT value FROM revision").fetchone()
            return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


@dataclass(frozen=True, slots=True)
class _Job:
    action: Callable[[sqlite3.Connection], Any]
    reply: asyncio.Future[Any]


class Database:
    """`locate()` returns the file's path; it runs in the thread before each opening. Belongs to one event loop."""

    def __init__(
        self, locate: Callable[[], Path], name: str, synchronous: Literal["FULL", "OFF"]
    ) -> None:
        self._locate = locate
        self._name = name
        self._synchronous = synchronous
        self._jobs: queue.SimpleQueue[_Job | Literal["poll"] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_ended: asyncio.Future[None] | None = None
        self._closed = False
        self._pending = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._poll_timer: PollTimer | None = None
        self._poll_is_queued = False
        # Used by the thread only:
        self._connection: sqlite3.Connection | None = None
        self._path = Path()
        self._was_open = False
        self._identity = (0, 0)
        self._seen_version = -1

    async def read(self, prefixes: Sequence[str], timeout_s: float) -> dict[str, Record]:
        """All records whose key begins with one of `prefixes` (one or more), from one snapshot."""
        # One statement reads one snapshot. With OR instead of UNION ALL it would scan the whole table.
        ranges = " UNION ALL ".join([_RANGE] * len(prefixes))
        bounds = [bound for prefix in prefixes for bound in (prefix, prefix + "\U0010ffff")]

        def select(connection: sqlite3.Connection) -> dict[str, Record]:
            rows = connection.execute(ranges, bounds)
            return {key: Record(value, version) for key, value, version in rows}

        return await self._run(select, timeout_s)

    async def get(self, key: str, timeout_s: float) -> Record | None:
        """The record of `key`."""

        def select(connection: sqlite3.Connection) -> Record | None:
            row = connection.execute(
                "SELECT value, version FROM kv WHERE key = ?", (key,)
            ).fetchone()
            return None if row is None else Record(*row)

        return await self._run(select, timeout_s)

    async def matches(self, expect: Mapping[str, int], timeout_s: float) -> bool:
        """Whether every key has its expected version."""
        return await self._run(lambda connection: _matches(connection, expect), timeout_s)

    async def commit(self, commit: Commit, timeout_s: float) -> Mapping[str, int] | None:
        """As `Coordinator.commit`, for this file alone."""
        versions = await self._run(lambda connection: _apply(connection, commit), timeout_s)
        if versions is not None:
            self._wake_waiters()
        return versions

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        """As `Coordinator.changed`. Raises `CoordinatorUnavailable` as soon as the file cannot be read."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            # Register before reading, so that no commit in between is missed.
            waiter = loop.create_future()
            self._waiters.add(waiter)
            try:
                record = await self.get(key, timeout_s)
                if self._poll_timer is not None and not self._closed:
                    self._poll_timer.start()
                if record is not None and record.version != version:
                    return record
                await asyncio.wait([waiter], timeout=max(deadline - loop.time(), 0.0))
            finally:
                self._waiters.discard(waiter)
            if not waiter.done():
                return None

    async def close(self) -> None:
        """End the thread, waiting for it at most 2 s. Idempotent."""
        self._closed = True
        if self._poll_timer is not None:
            self._poll_timer.close()
        self._jobs.put(None)
        if self._thread_ended is not None:
            await asyncio.wait([self._thread_ended], timeout=_CLOSE_S)

    async def _run(self, action: Callable[[sqlite3.Connection], T], timeout_s: float) -> T:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise CoordinatorUnavailable(f"{self._name} is closed")
        if self._pending >= _MAX_JOBS:
            raise CoordinatorUnavailable(
                f"{self._name} is stalled and {_MAX_JOBS} calls are waiting for it"
            )
        if self._thread is None:
            self._loop, self._thread_ended = loop, loop.create_future()
            self._poll_timer = PollTimer(loop, self._queue_poll)
            self._thread = threading.Thread(target=self._run_jobs, name=self._name, daemon=True)
            self._thread.start()
        reply: asyncio.Future[T] = loop.create_future()
        self._pending += 1
        reply.add_done_callback(self._on_job_done)
        self._jobs.put(_Job(action, reply))
        try:
            async with asyncio.timeout(timeout_s):
                return await reply
        except TimeoutError as error:
            raise CoordinatorUnavailable(
                f"{self._name} did not answer within {timeout_s:g} s"
            ) from error

    def _on_job_done(self, _: asyncio.Future[Any]) -> None:
        self._pending -= 1

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _queue_poll(self) -> bool:
        """Have the thread look for a commit if anybody waits for one; whether anybody does."""
        if self._waiters and not self._poll_is_queued:
            self._poll_is_queued = True
            self._jobs.put("poll")
        return bool(self._waiters)

    def _on_change(self) -> None:
        if self._poll_timer is not None:
            self._poll_timer.found()
        self._wake_waiters()

    def _on_opened(self, log_path: str) -> None:
        if self._poll_timer is not None and not self._closed:
            self._poll_timer.watch(log_path)

    # Everything below runs in the thread.

    def _run_jobs(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job == "poll":
                self._poll_is_queued = False
                self._poll()
            # A job whose call timed out is not started. One that was started may still take effect.
            elif not job.reply.done():
                self._execute(job)
        self._disconnect()
        self._call_in_loop(_resolve, self._thread_ended, None)

    def _execute(self, job: _Job) -> None:
        try:
            result = job.action(self._connect())
        except sqlite3.Error as error:
            if _is_busy(error):
                # Back to the end of the queue: reads behind it need not wait for another process's lock.
                self._jobs.put(job)
                return
            self._disconnect()
            self._call_in_loop(_reject, job.reply, self._unavailable(error))
        except OSError as error:
            self._disconnect()
            self._call_in_loop(_reject, job.reply, self._unavailable(error))
        except CoordinatorError as error:
            self._call_in_loop(_reject, job.reply, error)
        else:
            self._call_in_loop(_resolve, job.reply, result)

    def _poll(self) -> None:
        """Wake the waiters if another process has committed, or if the file cannot be used (reading tells them why)."""
        try:
            version = _data_version(self._connect())
        except (sqlite3.Error, OSError, CoordinatorError):
            self._disconnect()
            version = -1
        if version != self._seen_version or version < 0:
            self._seen_version = version
            self._call_in_loop(self._on_change)

    def _connect(self) -> sqlite3.Connection:
        """The connection to the file now at the path. If the file was replaced, the old connection is closed."""
        if self._connection is not None:
            if self._identity == _identity(self._path):
                return self._connection
            self._disconnect()
        self._path = self._locate()
        self._identity = _identity(self._path)
        _refuse_empty(self._path)
        connection = _open(self._path)
        try:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("SELECT value FROM revision").fetchone()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        if not self._was_open:
            # Waiters read after they register, so they see what was committed before. After a reopening `_seen_version`
            # stays -1 and the next poll wakes them, since commits may have been missed in between.
            self._seen_version = _data_version(connection)
            self._was_open = True
        self._call_in_loop(self._on_opened, f"{self._path}-wal")
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
            self._seen_version = -1

    def _call_in_loop(self, callback: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None  # noqa: S101 - set before the thread starts
        with suppress(RuntimeError):  # the loop is closed, so nobody waits for the result
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _unavailable(self, error: sqlite3.Error | OSError) -> CoordinatorUnavailable:
        meaning = _EXPLANATIONS.get(_code(error)) if isinstance(error, sqlite3.Error) else None
        detail = str(error) if meaning is None else f"{meaning} ({error})"
        where = f" in {self._path}" if self._path.name else ""
        return CoordinatorUnavailable(f"{self._name}{where} cannot be used: {detail}")


def _open(path: Path) -> sqlite3.Connection:
    # mode=rw: a missing file is an error; only `create` creates one.
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=_BUSY_TIMEOUT_MS / 1000,
    )


def _refuse_empty(path: Path) -> None:
    """Raise `CoordinatorUnavailable` if the file is empty, `sqlite3.Error` if it is not a database.

    Opened normally, SQLite would apply the log beside the file to whatever is there, or delete the log. If the real file
    was moved away and comes back, its last commits would then be lost. Opened as immutable, SQLite ignores the log.
    """
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        if connection.execute("PRAGMA schema_version").fetchone() == (0,):
            raise CoordinatorUnavailable(f"{path} is empty, though it is in use; put the file back")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _data_version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version


def _code(error: sqlite3.Error) -> int:
    """The primary result code, without the extension in the higher bits."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _matches(connection: sqlite3.Connection, expect: Mapping[str, int]) -> bool:
    for key, version in expect.items():
        row = connection.execute("SELECT version FROM kv WHERE key = ?", (key,)).fetchone()
        if (0 if row is None else row[0]) != version:
            return False
    return True


def _apply(connection: sqlite3.Connection, commit: Commit) -> dict[str, int] | None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _matches(connection, commit.expect):
            connection.execute("ROLLBACK")
            return None
        connection.execute("UPDATE revision SET value = value + 1")
        version: int = connection.execute("SELECT value FROM revision").fetchone()[0]
        for key in commit.delete:
            connection.execute("DELETE FROM kv WHERE key = ?", (key,))
        for key, value in commit.put.items():
            connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?)", (key, value, version))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
    return dict.fromkeys(commit.put, version)


def _resolve(reply: asyncio.Future[Any], result: Any) -> None:
    if not reply.done():
        reply.set_result(result)


def _reject(reply: asyncio.Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
