"""Snapshots of partitions: the file format and the stores that keep the files.

`SnapshotStore` is what a store must do: a local directory (`directory.py`) today, an object store later. All of its
calls block, so they belong into a thread, and raise `OSError`. The format is `docs/snapshot-format.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import BinaryIO, NamedTuple, Protocol, TypeAlias

from ringmaster.snapshot.names import BundleName, ManifestName, OldName

FileName: TypeAlias = BundleName | ManifestName
"""Names are made in `names.py`. A store asks for three things of one: `str()`, `draft` and `incarnation`."""


class StoredFile(NamedTuple):
    """A file as the store lists it; nothing says yet that it is valid."""

    name: FileName | OldName
    size: int


class Draft(Protocol):
    """A file being written; nobody else sees it before it is published."""

    name: FileName

    def append(self, chunks: Sequence[bytes]) -> None:
        """Write at the end."""

    def discard(self) -> None:
        """Give it up and remove what is there of it. Never raises."""


class SnapshotStore(Protocol):
    """The files of one cluster. A published file is complete and durable; bundles never change after that."""

    @property
    def place(self) -> str:
        """Where that is, for people."""

    def files(self) -> list[StoredFile]:
        """Every published file, in no order. An empty list if there has never been one."""

    def open(self, name: FileName) -> BinaryIO:
        """Read a published file; what it gives can seek."""

    def begin(self, name: FileName) -> Draft:
        """Start a new file."""

    def publish(self, drafts: Sequence[Draft]) -> None:
        """Make the drafts durable, then visible under their names, replacing a file of the same name.

        On an error each of them is either published or not there, and all that are not must be written anew.
        """

    def delete(self, names: Sequence[FileName]) -> None:
        """Remove files; those that are gone already are none of its concern."""

    def sweep(self, live: Collection[str]) -> int:
        """Remove drafts that incarnations not in `live` left behind; how many."""
