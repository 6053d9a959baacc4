"""The folders of a local cluster: private, short enough for sockets, used by one `ringmaster up` at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ringmaster.errors import SettingsError

SOCKET_PATH_LIMIT: Final = 107
"""Bytes of a unix socket's path (unix(7): 108 with the final zero)."""


def private_folder(path: Path, flag: str = "--data-dir") -> Path:
    """`path`, made with mode 0700 if missing, absolute. Raises `SettingsError` if it is not a folder of ours; `flag` moves it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = path.resolve()
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise SettingsError(f"the folder {path} cannot be written; choose another with {flag}")
    except OSError as error:
        for each in (path, *path.parents):
            if each.exists() and not each.is_dir():
                raise SettingsError(f"{each} is a file, a folder is needed") from error
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
