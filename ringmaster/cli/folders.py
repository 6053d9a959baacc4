"""The folders of a local cluster: private, short enough for sockets, used by one `ringmaster up` at a time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ringmaster.errors import SettingsError

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - what is made there is checked to be ours and private
SOCKET_PATH_LIMIT: Final = 107
"""Bytes of a unix socket's path (unix(7): 108 with the final zero)."""


def private_folder(path: Path) -> Path:
    """`path`, made with mode 0700 if missing, absolute. Raises `SettingsError` if it is not a folder of ours."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = path.resolve()
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise SettingsError(
                f"the folder {path} cannot be written; choose another with --data-dir"
            )
    except OSError as error:
        raise SettingsError(f"the folder {path} cannot be used: {error.strerror}") from error
    return path


@contextmanager
def sole_use(data_dir: Path) -> Iterator[None]:
    """Hold the data dir for one `ringmaster up`. Raises `SettingsError` if another one has it."""
    path = data_dir / "up.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SettingsError(f"cannot open {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise SettingsError(
                f"another `ringmaster up` (pid {pid or 'unknown'}) is running on {data_dir}; stop it, or choose "
                "another folder with --data-dir (and other ports)"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def run_folder(data_dir: Path, sockets: Sequence[str]) -> Iterator[Path]:
    """A folder for sockets and nginx: `run` in the data dir, or a temporary one if the paths were too long there."""
    folder = data_dir / "run"
    if all(len(os.fsencode(folder / name)) <= SOCKET_PATH_LIMIT for name in sockets):
        yield private_folder(folder)
        return
    folder = Path(tempfile.mkdtemp(prefix="ringmaster-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def memory_folder(data_dir: Path, shared_memory: Path = SHARED_MEMORY) -> Path | None:
    """A private folder for the data dir in memory, made if missing; None where there is no shared memory to write to.

    It survives the processes but not the machine, as leases must. Raises `SettingsError` if someone else made it.
    """
    if not os.access(shared_memory, os.W_OK) or not _is_tmpfs(shared_memory):
        return None
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    folder = shared_memory / f"ringmaster-{os.getuid()}-{name}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise SettingsError(
            f"the folder {folder} cannot be used: {error.strerror}; choose another with --lease-dir"
        ) from error
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.getuid()
        or stat.S_IMODE(status.st_mode) & 0o077
    ):
        raise SettingsError(
            f"{folder} is not a private folder of this user; remove it, or choose another with --lease-dir"
        )
    return folder


def _is_tmpfs(path: Path) -> bool:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    wanted = str(path)
    kinds = [line.split(" ")[2] for line in mounts.splitlines() if line.split(" ")[1] == wanted]
    return bool(kinds) and kinds[-1] == "tmpfs"
