"""The folder in memory of a local cluster: its leases and process locks.

It outlives the cluster, stopped or killed: the locks prove to the next start which nodes are gone (R5), so that it
need not wait for them. It is removed by the next start of any cluster once the data dir is gone too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from ringmaster.errors import SettingsError

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - what is made there is checked to be ours and private

LEAST_FREE_BYTES: Final = 16 * 2**20
"""The lease database and its log take a few MiB, and a lease that cannot be renewed suspends its node."""

_OWNER: Final = "data-dir"
"""The file that names the data dir it belongs to."""

_CLAIM_ATTEMPTS: Final = 100
_CLAIM_PAUSE_S: Final = 0.02


@contextmanager
def memory_folder(data_dir: Path, shared_memory: Path = SHARED_MEMORY) -> Iterator[Path | None]:
    """A private folder for the data dir in memory; None where there is no shared memory, or no room in it.

    It survives the processes but not the machine, as leases must. Nobody removes it within `with`. First removes those
    of this user whose data dir is gone. Raises `SettingsError` if someone else made it.
    """
    if free_shared_memory(shared_memory) is None:
        yield None
        return
    remove_abandoned(shared_memory)
    if _free_bytes(shared_memory) < LEAST_FREE_BYTES:
        yield None
        return
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    folder = shared_memory / f"{_prefix()}{name}"
    try:
        claim = _claim_for(folder, data_dir)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise SettingsError(
                f"the folder {folder} cannot be used: {error.strerror}; choose another with --lease-dir"
            ) from error
        claim = None
    if claim is None:
        yield None
        return
    try:
        yield folder
    finally:
        os.close(claim)


def free_shared_memory(shared_memory: Path = SHARED_MEMORY) -> int | None:
    """Bytes; None if there is no shared memory that can be written."""
    if not os.access(shared_memory, os.W_OK) or not _is_tmpfs(shared_memory):
        return None
    return _free_bytes(shared_memory)


def remove_abandoned(shared_memory: Path) -> None:
    """Remove this user's folders there whose data dir is gone and which no living process uses.

    A folder that cannot be judged stays.
    """
    for folder in sorted(shared_memory.glob(f"{_prefix()}*")):
        with suppress(OSError), ExitStack() as stack:
            descriptor = _open_folder(folder)
            stack.callback(os.close, descriptor)
            if not _is_private(descriptor) or not _lock(descriptor):
                continue
            data_dir = Path(os.fsdecode((folder / _OWNER).read_bytes()))
            if not data_dir.exists() and not _is_any_held(folder / "locks"):
                shutil.rmtree(folder)


def _claim_for(folder: Path, data_dir: Path) -> int:
    """As `_claim`; the folder names its data dir then."""
    claim = _claim(folder)
    try:
        (folder / _OWNER).write_bytes(os.fsencode(data_dir.resolve()))
    except OSError:
        os.close(claim)
        raise
    return claim


def _claim(folder: Path) -> int:
    """The locked descriptor of the folder, made if missing. Raises `SettingsError`, `OSError`."""
    for _ in range(_CLAIM_ATTEMPTS):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        descriptor = _open_folder(folder)
        try:
            if not _is_private(descriptor):
                raise SettingsError(
                    f"{folder} is not a private folder of this user; remove it, or choose another with --lease-dir"
                )
            # Another start may be looking at it, and may have removed it before we had the lock.
            if _lock(descriptor) and _is_still(folder, descriptor):
                claimed, descriptor = descriptor, -1
                return claimed
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        time.sleep(_CLAIM_PAUSE_S)
    raise SettingsError(f"the folder {folder} is in use by another process")


def _is_any_held(locks: Path) -> bool:
    """Whether a process with an id still lives (`ringmaster/cluster/process_lock.py`)."""
    for path in locks.glob("*.lock"):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if not _lock(descriptor):
                return True
        finally:
            os.close(descriptor)
    return False


def _free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize if status.f_favail else 0


def _prefix() -> str:
    return f"ringmaster-{os.getuid()}-"


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is_private(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o077


def _is_still(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_tmpfs(path: Path) -> bool:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    wanted = str(path)
    kinds = [line.split(" ")[2] for line in mounts.splitlines() if line.split(" ")[1] == wanted]
    return bool(kinds) and kinds[-1] == "tmpfs"
