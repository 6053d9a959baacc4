"""Proof of death (R5): a process holds an exclusive `flock` on its id's file for as long as it lives.

A process that gets the lock knows that the former holder is gone. Nothing else counts as proof.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ringmaster.errors import DuplicateId


class HeldLock(Protocol):
    """An exclusive lock on an id; the kernel releases it when the process dies."""

    @property
    def identity(self) -> tuple[int, int]:
        """(device, inode) of the lock file."""

    def release(self) -> None:
        """Give it up. Idempotent."""


class Liveness(Protocol):
    """Locks by id, shared by all processes of one boot that see the same directory."""

    @property
    def boot_id(self) -> str:
        """Identifies this boot of this kernel."""

    def hold(self, name: str) -> HeldLock:
        """Take the lock of `name` for life. Raises `DuplicateId` if a live process has it."""

    def prove_dead(self, name: str, identity: tuple[int, int]) -> HeldLock | None:
        """The lock of `name` if its holder is gone and the file is still `identity`; None proves nothing."""


class FlockLiveness:
    """flock(2) on files in `directory` (created 0700). Locks belong to open files and die with the process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def hold(self, name: str) -> HeldLock:
        lock = self._try(name)
        if lock is None:
            raise DuplicateId(
                f"another live process has the id {name!r} (its lock is {self._path(name)}); give this one another id"
            )
        return lock

    def prove_dead(self, name: str, identity: tuple[int, int]) -> HeldLock | None:
        try:
            lock = self._try(name)
        except OSError:
            return None
        if lock is not None and lock.identity != identity:
            lock.release()
            return None
        return lock

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.lock"

    def _try(self, name: str) -> _Flock | None:
        descriptor = os.open(
            self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return _Flock(descriptor)


class _Flock:
    __slots__ = ("_descriptor", "identity")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)

    def release(self) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
