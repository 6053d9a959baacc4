"""One SQLite file of keys, values and versions, used from an event loop through one thread.

The thread belongs to the file, so a stalled fsync of one file never delays another. While somebody waits for a change it
asks now and then whether another process has committed (`PRAGMA data_version`, a read of shared memory); `file_watch.py`
says when.
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
from ringmaster.coordinator.file_watch import Looks
from ringmaster.errors import CoordinatorError, CoordinatorUnavailable

_MAX_JOBS: Final = 256
_BUSY_MS: Final = 20
_CLOSE_S: Final = 2.0

_SCHEMA: Final = """
CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE revision (value INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
"""

_RANGE: Final = "SELECT key, value, version FROM kv WHERE key >= ? AND key < ?"

_MEANINGS: Final = {
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
    """A new, empty database at `path`, in one step (a crash leaves no half of one). Raises `OSError`, `sqlite3.Error`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    remove(temporary)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(_connect(temporary)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
    remove(path)
    temporary.replace(path)


def remove(path: Path) -> None:
    """Delete the database at `path`, if there is one, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def is_usable(path: Path) -> bool:
    """Whether `path` is a sound database of ours."""
    if not path.is_file():
        return False
    try:
        with closing(_connect(path)) as connection:
            connection.execute("SELECT value FROM revision").fetchone()
            return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


@dataclass(frozen=True, slots=True)
class _Job:
    action: Callable[[sqlite3.Connection], Any]
    reply: asyncio.Future[Any]


class Database:
    """`locate()` gives the file's path; it runs in the thread, before each opening. Belongs to one event loop."""

    def __init__(
        self, locate: Callable[[], Path], name: str, synchronous: Literal["FULL", "OFF"]
    ) -> None:
        self._locate = locate
        self._name = name
        self._synchronous = synchronous
        self._jobs: queue.SimpleQueue[_Job | Literal["poll"] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._closed = False
        self._pending = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._looks: Looks | None = None
        self._is_polling = False
        # The thread's own:
        self._connection: sqlite3.Connection | None = None
        self._path = Path()
        self._was_open = False
        self._identity = (0, 0)
        self._seen = -1

    async def read(self, prefixes: Sequence[str], timeout_s: float) -> dict[str, Record]:
        """All records whose key begins with one of `prefixes` (one or more), from one snapshot."""
        # One statement is one snapshot; joined by OR it would go through all rows.
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

    async def meets(self, expect: Mapping[str, int], timeout_s: float) -> bool:
        """Whether every key has the version it is expected to have."""
        return await self._run(lambda connection: _meets(connection, expect), timeout_s)

    async def commit(self, commit: Commit, timeout_s: float) -> Mapping[str, int] | None:
        """As `Coordinator.commit`, for this file alone."""
        versions = await self._run(lambda connection: _apply(connection, commit), timeout_s)
        if versions is not None:
            self._wake()
        return versions

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        """As `Coordinator.changed`. Raises `CoordinatorUnavailable` as soon as the file cannot be read."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            # Listening begins before reading, so that no commit in between is missed.
            waiter = loop.create_future()
            self._waiters.add(waiter)
            try:
                record = await self.get(key, timeout_s)
                if self._looks is not None and not self._closed:
                    self._looks.begin()
                if record is not None and record.version != version:
                    return record
                await asyncio.wait([waiter], timeout=max(deadline - loop.time(), 0.0))
            finally:
                self._waiters.discard(waiter)
            if not waiter.done():
                return None

    async def close(self) -> None:
        """End the thread; waits for it 2 s at most. Idempotent."""
        self._closed = True
        if self._looks is not None:
            self._looks.close()
        self._jobs.put(None)
        if self._ended is not None:
            await asyncio.wait([self._ended], timeout=_CLOSE_S)

    async def _run(self, action: Callable[[sqlite3.Connection], T], timeout_s: float) -> T:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise CoordinatorUnavailable(f"{self._name} is closed")
        if self._pending >= _MAX_JOBS:
            raise CoordinatorUnavailable(
                f"{self._name} is stalled and {_MAX_JOBS} calls wait for it"
            )
        if self._thread is None:
            self._loop, self._ended = loop, loop.create_future()
            self._looks = Looks(loop, self._look)
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        reply: asyncio.Future[T] = loop.create_future()
        self._pending += 1
        reply.add_done_callback(self._settled)
        self._jobs.put(_Job(action, reply))
        try:
            async with asyncio.timeout(timeout_s):
                return await reply
        except TimeoutError as error:
            raise CoordinatorUnavailable(
                f"{self._name} did not answer within {timeout_s:g} s"
            ) from error

    def _settled(self, _: asyncio.Future[Any]) -> None:
        self._pending -= 1

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _look(self) -> bool:
        """Have the thread look for a commit; whether anybody waits for one."""
        if self._waiters and not self._is_polling:
            self._is_polling = True
            self._jobs.put("poll")
        return bool(self._waiters)

    def _noticed(self) -> None:
        if self._looks is not None:
            self._looks.found()
        self._wake()

    def _opened(self, log: str) -> None:
        if self._looks is not None and not self._closed:
            self._looks.watch(log)

    # Below: the thread.

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job == "poll":
                self._is_polling = False
                self._poll()
            # A call that timed out is not begun. One that is begun already may still take effect.
            elif not job.reply.done():
                self._do(job)
        self._disconnect()
        self._tell(_resolve, self._ended, None)

    def _do(self, job: _Job) -> None:
        try:
            result = job.action(self._connected())
        except sqlite3.Error as error:
            if _is_busy(error):
                self._jobs.put(
                    job
                )  # behind the reads: those do not wait for another process's lock
                return
            self._disconnect()
            self._tell(_reject, job.reply, self._unavailable(error))
        except OSError as error:
            self._disconnect()
            self._tell(_reject, job.reply, self._unavailable(error))
        except CoordinatorError as error:
            self._tell(_reject, job.reply, error)
        else:
            self._tell(_resolve, job.reply, result)

    def _poll(self) -> None:
        """Wake who waits if another process has committed, or if the file cannot be used (they will find out)."""
        try:
            seen = _data_version(self._connected())
        except (sqlite3.Error, OSError, CoordinatorError):
            self._disconnect()
            seen = -1
        if seen != self._seen or seen < 0:
            self._seen = seen
            self._tell(self._noticed)

    def _connected(self) -> sqlite3.Connection:
        """The connection to the file that is at the path now: one that was moved away is used no more."""
        if self._connection is not None:
            if self._identity == _identity(self._path):
                return self._connection
            self._disconnect()
        self._path = self._locate()
        self._identity = _identity(self._path)
        _check(self._path)
        connection = _connect(self._path)
        try:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("SELECT value FROM revision").fetchone()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        if not self._was_open:
            # What was committed before is seen by whoever reads now; after a break nobody knows what was missed.
            self._seen = _data_version(connection)
            self._was_open = True
        self._tell(self._opened, f"{self._path}-wal")
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
            self._seen = -1

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None  # noqa: S101 - set before the thread starts
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _unavailable(self, error: sqlite3.Error | OSError) -> CoordinatorUnavailable:
        meaning = _MEANINGS.get(_code(error)) if isinstance(error, sqlite3.Error) else None
        detail = str(error) if meaning is None else f"{meaning} ({error})"
        where = f" in {self._path}" if self._path.name else ""
        return CoordinatorUnavailable(f"{self._name}{where} cannot be used: {detail}")


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a missing file is an error, it is created only by `create`.
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=_BUSY_MS / 1000,
    )


def _check(path: Path) -> None:
    """Raise unless `path` looks like a database.

    SQLite would apply the log beside it to whatever is there, or delete that log: if the true file was moved away and
    comes back, its last commits would be gone. Read-only and immutable, it leaves the log alone.
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
    """The primary result code: the extended one says more than anybody asks for."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _meets(connection: sqlite3.Connection, expect: Mapping[str, int]) -> bool:
    for key, version in expect.items():
        row = connection.execute("SELECT version FROM kv WHERE key = ?", (key,)).fetchone()
        if (0 if row is None else row[0]) != version:
            return False
    return True


def _apply(connection: sqlite3.Connection, commit: Commit) -> dict[str, int] | None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _meets(connection, commit.expect):
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
