"""Which processes may open the sqlite coordinator's files: those under one kernel.

SQLite's WAL mode shares memory between its users, so all of them must run under the same kernel. `host.json` beside the
database names that kernel; every user holds a shared `flock` on `host.lock` until it ends.

- The same boot id means the same kernel, whatever the machine id (containers have their own): accepted.
- Another boot id means a reboot or another host. After a reboot no process of the boot before is alive, hence no lease,
  so taking over is safe. It counts as a reboot if nobody holds `host.lock` and, besides, either the machine id is the
  recorded one (a machine runs one kernel at a time) or the directory is on a local file system (only one kernel mounts
  it, so the free lock holds for every possible user).
- Anything else raises `ForeignHost`: on a network file system locks may not reach across hosts, and no time-out tells a
  dead host from a slow one. An operator who knows that the other host is gone deletes `host.json`.

A process that gets `host.lock` exclusively is alone: no other process has the files open, so no lease is in use. Only
then are files created, or the lease database replaced. So a file that disappears while in use is never recreated, since
half of the processes would still use the old one. The coordinator stays unavailable until the file is put back or all
processes have stopped.
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
from ringmaster.runtime.decoding import decode_json

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
"""File systems that only one kernel at a time can mount."""

_START_LOCK_ATTEMPTS: Final = 100
_START_LOCK_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Host:
    """A kernel and its machine. `is_local(directory)`: whether only one kernel at a time can mount that file system."""

    boot_id: str
    machine_id: str
    is_local: Callable[[Path], bool]


class _Record(msgspec.Struct, frozen=True):
    boot_id: str
    machine_id: str
    lease_file: str


def this_host() -> Host:
    """The host of this process. Without /etc/machine-id the host name is the machine id."""
    machine_id = ""
    with suppress(OSError):
        machine_id = Path("/etc/machine-id").read_text().strip()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Host(boot_id, machine_id or f"host {socket.gethostname()}", _is_local)


class HostClaim:
    """One process's permission to use the files in `directory`. Thread-safe; all methods block on file I/O."""

    def __init__(self, directory: Path, host: Host, create: Callable[[str, bool], str]) -> None:
        """`create(lease_file, is_same_boot)` is called only while this process is alone.

        It gets the recorded name of the lease database ("" if there is none) and whether its rows are of this boot. It
        creates the files that are missing and returns the name of the lease database to use.
        """
        self._directory = directory
        self._host = host
        self._create = create
        self._mutex = threading.Lock()
        self._descriptor = -1
        self._lease_file = ""

    def lease_file(self) -> str:
        """The name of the lease database; claims first if necessary. Raises `ForeignHost`, `CoordinatorUnavailable`,
        `OSError`.
        """
        with self._mutex:
            if self._descriptor < 0:
                self._claim()
            return self._lease_file

    def release(self) -> None:
        """Release the claim. Idempotent."""
        with self._mutex:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _claim(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        start_lock = self._open("start.lock")
        host_lock = -1
        try:
            # Processes claim one at a time, so if the exclusive lock fails, a user holds it, not another claimant.
            self._wait_for_turn(start_lock)
            host_lock = self._open("host.lock")
            record = self._join_or_take_over(host_lock)
            self._lease_file = record.lease_file
            self._descriptor, host_lock = host_lock, -1
        finally:
            os.close(start_lock)
            if host_lock >= 0:
                os.close(host_lock)

    def _join_or_take_over(self, host_lock: int) -> _Record:
        """Hold `host_lock` shared: beside the other users, or alone, after the files were checked or created."""
        record = self._read()
        if not _try_lock(host_lock, fcntl.LOCK_EX):
            # Does not block: only claimants ask for the exclusive lock, and no other is at it.
            fcntl.flock(host_lock, fcntl.LOCK_SH)
            if record is None:
                raise CoordinatorUnavailable(
                    f"{self._directory / 'host.json'} is missing or damaged while the coordinator is in use;"
                    " stop every process that uses it, then start them again"
                )
            if record.boot_id != self._host.boot_id:
                raise ForeignHost(self._refusal("by a live process under another kernel"))
            return record
        same_boot = record is not None and record.boot_id == self._host.boot_id
        if record is not None and not same_boot and not self._rebooted(record):
            raise ForeignHost(self._refusal("by another machine"))
        lease_file = self._create("" if record is None else record.lease_file, same_boot)
        record = _Record(self._host.boot_id, self._host.machine_id, lease_file)
        self._write(record)
        fcntl.flock(host_lock, fcntl.LOCK_SH)
        return record

    def _rebooted(self, record: _Record) -> bool:
        return record.machine_id == self._host.machine_id or self._host.is_local(self._directory)

    def _refusal(self, by_whom: str) -> str:
        return (
            f"the sqlite coordinator in {self._directory} is used {by_whom}; it serves one host, use etcd for several"
            f" (if that host is gone for good, delete {self._directory / 'host.json'})"
        )

    def _wait_for_turn(self, start_lock: int) -> None:
        for _ in range(_START_LOCK_ATTEMPTS):
            if _try_lock(start_lock, fcntl.LOCK_EX):
                return
            time.sleep(_START_LOCK_PAUSE_S)
        raise CoordinatorUnavailable(
            f"another process has been opening the coordinator in {self._directory} for too long"
        )

    def _open(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._directory / name, flags, 0o600)

    def _read(self) -> _Record | None:
        try:
            return decode_json((self._directory / "host.json").read_bytes(), _Record)
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
    """Whether `directory` is on one of `LOCAL_FILE_SYSTEMS` (proc_pid_mountinfo(5)): the longest mount point decides."""
    path = str(directory.resolve())
    longest, file_system = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        point = mount.split(" ")[4].encode().decode("unicode_escape")
        is_inside = path == point or path.startswith(point.rstrip("/") + "/")
        if is_inside and len(point) >= len(longest):
            longest, file_system = point, source.split(" ")[0]
    return file_system in LOCAL_FILE_SYSTEMS
