"""One kernel at a time: who may open the sqlite coordinator's files.

SQLite's WAL mode shares memory between its users, so all of them must run under one kernel. `host.json` beside the
database names it; every user holds a shared `flock` on `host.lock` for life.

- The same boot id is the same kernel, whatever the machine id says (containers have their own): welcome.
- Another boot id is a reboot or another host. A reboot may take over; that is safe because no process, hence no lease,
  of the boot before can be alive. Evidence, all that apply: nobody holds `host.lock`; and either the machine id is the
  recorded one (a machine runs one kernel at a time), or the directory is on a local file system (only one kernel
  mounts it, so the free lock speaks for all). Otherwise `ForeignHost`: on a network file system locks may not reach
  between hosts, and no clock tells a dead host from a slow one. An operator who knows deletes `host.json`.

Who finds `host.lock` free is alone: no other process has the files open, so no lease is in use. Only then are files
created or the lease database replaced. A file that vanishes while it is in use is therefore never silently begun anew
(half of the processes would still use the old one); the coordinator is unavailable until it is put back or all stop.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ringmaster.errors import CoordinatorUnavailable, ForeignHost

LOCAL_FILE_SYSTEMS: Final = frozenset(
    [
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "bcachefs",
        "zfs",
        "f2fs",
        "jfs",
        "tmpfs",
        "ramfs",
        "overlay",
    ]
)
"""File systems that one kernel at a time mounts."""

_STARTS_ATTEMPTS: Final = 100
_STARTS_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Host:
    """A kernel and its machine, and whether a directory's locks reach every possible user of it."""

    boot_id: str
    machine_id: str
    is_local: Callable[[Path], bool]


class _Record(msgspec.Struct, frozen=True):
    boot_id: str
    machine_id: str
    lease_file: str


def this_host() -> Host:
    """Where this process runs. The machine id is the host name where there is no /etc/machine-id."""
    machine_id = ""
    with suppress(OSError):
        machine_id = Path("/etc/machine-id").read_text().strip()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Host(boot_id, machine_id or f"host {socket.gethostname()}", _is_local)


class HostClaim:
    """The right of one process to use the files in `directory`. Thread-safe; all methods block on file I/O."""

    def __init__(self, directory: Path, host: Host, create: Callable[[str, bool], str]) -> None:
        """`create(name of the lease database, or "", whether its rows still mean something)` runs only while this
        process is alone; it makes the files that are missing and returns the lease database's name.
        """
        self._directory = directory
        self._host = host
        self._create = create
        self._mutex = threading.Lock()
        self._descriptor = -1
        self._lease_file = ""

    def lease_file(self) -> str:
        """Claim if that is not done yet; the name of the lease database. Raises `ForeignHost`, `OSError`."""
        with self._mutex:
            if self._descriptor < 0:
                self._claim()
            return self._lease_file

    def release(self) -> None:
        """Give the claim up. Idempotent."""
        with self._mutex:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _claim(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        starting = self._open("start.lock")
        lock = -1
        try:
            # Starters go one by one, so an exclusive lock that fails means a user, never another starter.
            self._wait_for_turn(starting)
            lock = self._open("host.lock")
            record = self._settle(lock)
            self._lease_file = record.lease_file
            self._descriptor, lock = lock, -1
        finally:
            os.close(starting)
            if lock >= 0:
                os.close(lock)

    def _settle(self, lock: int) -> _Record:
        record = self._read()
        if not _try_lock(lock, fcntl.LOCK_EX):
            fcntl.flock(
                lock, fcntl.LOCK_SH
            )  # at once: only starters ask for more, and it is our turn
            if record is None:
                raise CoordinatorUnavailable(
                    f"{self._directory / 'host.json'} is missing or damaged while the coordinator is in use;"
                    " stop every process that uses it, then start again"
                )
            if record.boot_id != self._host.boot_id:
                raise ForeignHost(self._refusal("by a process under another kernel that is alive"))
            return record
        same_boot = record is not None and record.boot_id == self._host.boot_id
        if record is not None and not same_boot and not self._rebooted(record):
            raise ForeignHost(self._refusal("by another machine"))
        lease_file = self._create("" if record is None else record.lease_file, same_boot)
        record = _Record(self._host.boot_id, self._host.machine_id, lease_file)
        self._write(record)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return record

    def _rebooted(self, record: _Record) -> bool:
        return record.machine_id == self._host.machine_id or self._host.is_local(self._directory)

    def _refusal(self, whom: str) -> str:
        return (
            f"the sqlite coordinator in {self._directory} is used {whom}; it serves one host, use etcd for several"
            f" (if that host is gone for good, delete {self._directory / 'host.json'})"
        )

    def _wait_for_turn(self, starting: int) -> None:
        for _ in range(_STARTS_ATTEMPTS):
            if _try_lock(starting, fcntl.LOCK_EX):
                return
            time.sleep(_STARTS_PAUSE_S)
        raise CoordinatorUnavailable(
            f"another process has been opening the coordinator in {self._directory} for too long"
        )

    def _open(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._directory / name, flags, 0o600)

    def _read(self) -> _Record | None:
        try:
            return msgspec.json.decode((self._directory / "host.json").read_bytes(), type=_Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write(self, record: _Record) -> None:
        temporary = self._directory / f"host.json.{secrets.token_hex(4)}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(descriptor)
            temporary.replace(self._directory / "host.json")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _try_lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_local(directory: Path) -> bool:
    """Whether `directory` lies on a file system of `LOCAL_FILE_SYSTEMS` (proc_pid_mountinfo(5))."""
    path = str(directory.resolve())
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        point = mount.split(" ")[4].encode().decode("unicode_escape")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, source.split(" ")[0]
    return kind in LOCAL_FILE_SYSTEMS
