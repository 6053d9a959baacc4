"""Snapshot files as a person meets them: verified, listed, read entry by entry. Blocking; needs no cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from ringmaster.entry import Header, Meta, header, meta_of, value_offset
from ringmaster.errors import SettingsError, SnapshotDamaged, SnapshotError
from ringmaster.hashing import partition_of
from ringmaster.snapshot.directory import LocalDirectory, clusters_in
from ringmaster.snapshot.format import SnapshotHeader, split_payload
from ringmaster.snapshot.names import SnapshotName, by_partition
from ringmaster.snapshot.reader import Damage, SnapshotReader, check_identity

_FOLDER: Final = "snapshots"


@dataclass(slots=True)
class FileVerdict:
    """What is to be said of a file. `header` None: nothing of it can be read."""

    name: SnapshotName
    size: int
    header: SnapshotHeader | None = None
    entries: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every byte of it is as it was written."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a file. `version` as clients know it."""

    partition: int
    key: bytes
    version: str
    header: Header
    meta: Meta
    value: bytes


class Archive:
    """The snapshots of one cluster in a folder."""

    def __init__(self, folder: Path, cluster: str) -> None:
        self.cluster = cluster
        self._store = LocalDirectory(folder, cluster)
        self.problems: list[str] = []
        """What `records` could not read, a sentence each."""

    def versions(self) -> dict[int, list[tuple[SnapshotName, int]]]:
        """Name and size of the files of each partition, newest first. Raises `OSError`."""
        found = by_partition(self._store.files())
        return {number: [(f.name, f.size) for f in found[number]] for number in sorted(found)}

    def verify(self, name: SnapshotName, size: int) -> FileVerdict:
        """Read every byte of a file."""
        verdict = FileVerdict(name, size)
        try:
            for record in self._records(name, verdict):
                if (
                    partition_of(record.key, verdict.header.partitions if verdict.header else 1)
                    != name.partition
                ):
                    verdict.problems.append(f"the key {record.key!r} belongs to another partition")
        except (OSError, SnapshotError) as error:
            verdict.problems.append(str(error))
        return verdict

    def head(self, name: SnapshotName, size: int) -> FileVerdict:
        """Only the header of a file."""
        verdict = FileVerdict(name, size)
        try:
            with self._store.open(name) as stream:
                verdict.header = SnapshotReader(stream).header
                verdict.entries = verdict.header.entries
        except (OSError, SnapshotError) as error:
            verdict.problems.append(str(error))
        return verdict

    def records(self) -> Iterator[Record]:
        """The entries of the newest readable file of each partition, as a restore would take them, oldest first."""
        for versions in self.versions().values():
            for name, size in versions:
                verdict = FileVerdict(name, size)
                try:
                    yield from self._records(name, verdict)
                except (OSError, SnapshotError) as error:
                    verdict.problems.append(str(error))
                self.problems += [f"{name}: {problem}" for problem in verdict.problems]
                if verdict.entries or verdict.sound:
                    break

    def _records(self, name: SnapshotName, verdict: FileVerdict) -> Iterator[Record]:
        with self._store.open(name) as stream:
            reader = SnapshotReader(stream)
            verdict.header = reader.header
            check_identity(reader.header, name, self.cluster, reader.header.partitions)
            for item in reader.blocks():
                if isinstance(item, Damage):
                    verdict.problems.append(str(item))
                    continue
                try:
                    records = list(self._decoded(name, *split_payload(item.raw, item.entries)))
                except (SnapshotDamaged, msgspec.MsgspecError, ValueError) as error:
                    verdict.problems.append(f"block {item.position}: {error}")
                    continue
                verdict.entries += len(records)
                yield from records

    def _decoded(
        self, name: SnapshotName, keys: Sequence[bytes], entries: Sequence[bytes]
    ) -> Iterator[Record]:
        for key, entry in zip(keys, entries, strict=True):
            decoded = header(entry)
            offset = value_offset(entry)
            if offset > len(entry):
                raise SnapshotDamaged(f"the entry of {key!r} is cut off")
            version = f"{decoded.term:x}-{decoded.seq:x}-{self.cluster[:8]}"
            yield Record(name.partition, key, version, decoded, meta_of(entry), entry[offset:])


def find_archive(path: Path, cluster: str | None) -> Archive:
    """The archive that `path` means: a folder of snapshots, a data dir, or the folder of one cluster.

    Raises `SettingsError` if there is none, or several and `cluster` does not say which.
    """
    folder = path / _FOLDER if (path / _FOLDER).is_dir() else path
    try:
        found = clusters_in(folder)
        if not found and path.is_dir() and path.name in clusters_in(path.resolve().parent):
            folder, found = path.resolve().parent, [path.name]
    except OSError as error:
        raise SettingsError(f"cannot read {folder}: {error.strerror}") from error
    if cluster is not None:
        found = [each for each in found if each.startswith(cluster)]
    if not found:
        raise SettingsError(f"there are no snapshots in {folder}")
    if len(found) > 1:
        raise SettingsError(
            f"there are snapshots of {len(found)} clusters in {folder}; choose one with --cluster: {', '.join(found)}"
        )
    return Archive(folder, found[0])
