"""Snapshots of partitions: the file format, and the stores that hold the files.

`SnapshotStore` is the interface of a store: a local directory (`directory.py`) today, an object store later. Its calls
block, so they belong in a thread, and may raise `OSError`. `docs/snapshot-format.md` defines the format.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import BinaryIO, NamedTuple, Protocol, TypeAlias

from ringmaster.snapshot.names import BundleName, ManifestName, Version1Name

FileName: TypeAlias = BundleName | ManifestName
"""Made in `names.py`. A store uses nothing of a name but `str()`, `draft` and `incarnation`."""


class StoredFile(NamedTuple):
    """A file as the store lists it, not yet checked."""

    name: FileName | Version1Name
    size: int


class Draft(Protocol):
    """A file being written. It is invisible until it is published."""

    name: FileName

    def append(self, chunks: Sequence[bytes]) -> None:
        """Append all of `chunks`."""

    def discard(self) -> None:
        """Abandon the draft and remove what was written of it. Never raises."""


class SnapshotStore(Protocol):
    """The files of one cluster. A published file is complete and durable, and a published bundle never changes."""

    @property
    def location(self) -> str:
        """Where the store is, for messages."""

    def files(self) -> list[StoredFile]:
        """Every published file, in no particular order; empty if nothing was ever published."""

    def open(self, name: FileName) -> BinaryIO:
        """A published file, opened for reading; it supports seek."""

    def begin(self, name: FileName) -> Draft:
        """Start a new file."""

    def publish(self, drafts: Sequence[Draft]) -> None:
        """Make the drafts durable, then visible under their names. A file of the same name is replaced.

        On an error each draft is either published or discarded; those that are not published must be written again.
        """

    def delete(self, names: Sequence[FileName]) -> None:
        """Delete files. Names that do not exist are ignored."""

    def sweep(self, live: Collection[str]) -> int:
        """Delete the drafts left behind by incarnations that are not in `live`; returns how many."""
