"""Snapshots in a folder of the local file system or a mounted volume: `<folder>/<cluster id>/`.

Files are opened relative to the open folder and without following symbolic links, so a link planted there has no effect.
A file is written as a draft, synced, renamed to its name, and then the folder is synced.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from ringmaster.errors import SettingsError
from ringmaster.snapshot import Draft, FileName, StoredFile
from ringmaster.snapshot.names import parse_draft, parse_name

_CLUSTER: Final = re.compile(r"[0-9a-f]{32}")
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Non-blocking, so that opening a named pipe in the folder does not hang.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_IOV_MAX: Final = 512


class LocalDraft:
    """A draft: a file whose name begins with a dot, open for writing."""

    def __init__(self, store: LocalDirectory, name: FileName, descriptor: int) -> None:
        self.name = name
        self._store = store
        self._descriptor = descriptor

    def append(self, chunks: Sequence[bytes]) -> None:
        """Append all of `chunks`. After an `OSError` the draft can only be discarded."""
        pending = [memoryview(chunk) for chunk in chunks if chunk]
        while pending:
            written = os.writev(self._descriptor, pending[:_IOV_MAX])
            done = 0
            while done < len(pending) and written >= len(pending[done]):
                written -= len(pending[done])
                done += 1
            del pending[:done]
            if written:
                pending[0] = pending[0][written:]

    def sync(self) -> None:
        """Sync the file to disk and close it. Raises `OSError`."""
        os.fsync(self._descriptor)
        self.close()

    def close(self) -> None:
        """Close the file. Raises `OSError`: some file systems report a failed write only on close."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def discard(self) -> None:
        """Close and delete the file, ignoring errors."""
        with suppress(OSError):
            self.close()
        with suppress(OSError):
            self._store.remove_draft(self.name)


class LocalDirectory:
    """The snapshots of the cluster with id `cluster` in `folder`, which is created by the first write."""

    def __init__(self, folder: Path, cluster: str) -> None:
        if not _CLUSTER.fullmatch(cluster):
            raise SettingsError(f"{cluster!r} is not a cluster id")
        self._folder = folder
        self._cluster = cluster

    @property
    def location(self) -> str:
        """The path of the cluster's folder."""
        return str(self._folder / self._cluster)

    def files(self) -> list[StoredFile]:
        """All regular files with names of this format."""
        try:
            with self._opened() as folder:
                return list(_stored_files(folder))
        except FileNotFoundError:
            return []

    def open(self, name: FileName) -> BinaryIO:
        """Open for reading. Raises `OSError`, also if it is not a regular file."""
        with self._opened() as folder:
            descriptor = os.open(str(name), _READ, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(f"{name} is not a regular file")
        return os.fdopen(descriptor, "rb")

    def begin(self, name: FileName) -> LocalDraft:
        """A new draft, mode 0600. If one of that name exists, this incarnation abandoned it, and it is replaced."""
        if parse_name(str(name)) != name:
            raise ValueError(f"{name} is not a valid name of a snapshot file")
        self._create_folder()
        with self._opened() as folder:
            with suppress(FileNotFoundError):
                os.unlink(name.draft, dir_fd=folder)
            return LocalDraft(self, name, os.open(name.draft, _NEW_FILE, 0o600, dir_fd=folder))

    def publish(self, drafts: Sequence[Draft]) -> None:
        """Sync all files, rename them, then sync the folder."""
        ours = [draft for draft in drafts if isinstance(draft, LocalDraft)]
        for draft in ours:
            draft.sync()
        with self._opened() as folder:
            for draft in ours:
                os.rename(draft.name.draft, str(draft.name), src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def delete(self, names: Sequence[FileName]) -> None:
        """Delete files. Raises `OSError`."""
        if not names:
            return
        with self._opened() as folder:
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(str(name), dir_fd=folder)

    def remove_draft(self, name: FileName) -> None:
        """Delete the file of a draft. Raises `OSError`."""
        with self._opened() as folder:
            os.unlink(name.draft, dir_fd=folder)

    def sweep(self, live: Collection[str]) -> int:
        """As in the interface. The age of a draft does not matter: only a live incarnation can still be writing one."""
        removed = 0
        try:
            with self._opened() as folder:
                for text in os.listdir(folder):
                    name = parse_draft(text)
                    if name is not None and name.incarnation not in live:
                        os.unlink(text, dir_fd=folder)
                        removed += 1
        except FileNotFoundError:
            pass
        return removed

    @contextmanager
    def _opened(self) -> Iterator[int]:
        # The folder itself may be a symbolic link, to a mounted volume for instance; what is in it may not.
        outer = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inner = os.open(self._cluster, _FOLDER_FLAGS, dir_fd=outer)
        finally:
            os.close(outer)
        try:
            yield inner
        finally:
            os.close(inner)

    def _create_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileExistsError):
                os.mkdir(self._cluster, 0o700, dir_fd=folder)
                os.fsync(folder)
        finally:
            os.close(folder)


def clusters_in(folder: Path) -> list[str]:
    """The ids of the clusters with a folder in `folder`. Raises `OSError`."""
    with os.scandir(folder) as found:
        return sorted(
            each.name
            for each in found
            if _CLUSTER.fullmatch(each.name) and each.is_dir(follow_symlinks=False)
        )


def _stored_files(folder: int) -> Iterator[StoredFile]:
    with os.scandir(folder) as found:
        for each in found:
            name = parse_name(each.name)
            if name is None:
                continue
            try:
                status = each.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield StoredFile(name, status.st_size)
