"""Snapshots for the command line: found, verified, and read entry by entry. Blocking; needs no running cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from ringmaster.errors import SettingsError, SnapshotDamaged
from ringmaster.protocol.entry import Header, header, meta_of, value_offset
from ringmaster.protocol.entry_meta import Meta
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.tag_records import is_dead, is_record
from ringmaster.snapshot.catalog import Catalog, CatalogReader, StoredSection
from ringmaster.snapshot.directory import LocalDirectory, clusters_in
from ringmaster.snapshot.format import split_payload
from ringmaster.snapshot.reader import Damage, SectionReader

_FOLDER: Final = "snapshots"


@dataclass(slots=True)
class SectionCheck:
    """The result of reading a section. `entries`: how many could be read; `total`: how many there should be, None if
    unknown; `problems`: a sentence each.
    """

    stored: StoredSection
    entries: int = 0
    total: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every byte of the section is as it was written."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """One entry of a section, decoded. `version` has the form that clients see."""

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
        """What `entries` could not read, a sentence each."""

    def catalog(self) -> Catalog:
        """The sections and files there are. Raises `OSError`."""
        return CatalogReader(self._store, self.cluster, None).read()

    def verify(self, stored: StoredSection) -> SectionCheck:
        """Read every byte of a section."""
        check = SectionCheck(stored)
        number, partitions = stored.section.id.partition, stored.header.partitions
        try:
            for entry in self._entries(check):
                if partition_of(entry.key, partitions) != number:
                    check.problems.append(f"the key {entry.key!r} belongs to another partition")
        except OSError as error:
            check.problems.append(str(error))
        return check

    def entries(self) -> Iterator[SnapshotEntry]:
        """The entries that a restore would load: those of the newest readable section of each partition.

        Within a partition the least recently used comes first.
        """
        catalog = self.catalog()
        self.problems += file_problems(catalog)
        for number in sorted(catalog.sections):
            for stored in catalog.sections[number]:
                check = SectionCheck(stored)
                try:
                    yield from self._entries(check)
                except OSError as error:
                    check.problems.append(str(error))
                where = f"{stored.bundle}, partition {number}"
                self.problems += [f"{where}: {problem}" for problem in check.problems]
                if check.entries or check.sound or check.total == 0:
                    break

    def _entries(self, check: SectionCheck) -> Iterator[SnapshotEntry]:
        stored = check.stored
        records: dict[bytes, bytes] = {}
        with self._store.open(stored.bundle) as stream:
            reader = SectionReader(stream, stored.header.sync, stored.section)
            for item in reader.blocks():
                check.total = reader.entries
                if isinstance(item, Damage):
                    check.problems.append(str(item))
                    continue
                try:
                    pairs = split_payload(item.raw, item.entries)
                    entries = list(self._decoded(stored.section.id.partition, records, *pairs))
                except (SnapshotDamaged, msgspec.MsgspecError, ValueError) as error:
                    check.problems.append(f"block {item.position}: {error}")
                    continue
                check.entries += len(entries)
                yield from entries
            check.total = reader.entries

    def _decoded(
        self,
        number: int,
        records: dict[bytes, bytes],
        keys: Sequence[bytes],
        entries: Sequence[bytes],
    ) -> Iterator[SnapshotEntry]:
        """Clients' entries. `records` of invalidated tags, which come first in a section, are added to; what they killed is left out."""
        for key, entry in zip(keys, entries, strict=True):
            decoded = header(entry)
            offset = value_offset(entry)
            if offset > len(entry):
                raise SnapshotDamaged(f"the entry of {key!r} is cut off")
            if is_record(key):
                records[key] = entry
                continue
            if is_dead(entry, records):
                continue
            version = f"{decoded.term:x}-{decoded.seq:x}-{self.cluster[:8]}"
            yield SnapshotEntry(number, key, version, decoded, meta_of(entry), entry[offset:])


def file_problems(catalog: Catalog) -> list[str]:
    """What is wrong with files as a whole, and which are missing, a sentence each."""
    sentences = [f"{problem.file}: damaged, {problem.reason}" for problem in catalog.problems]
    partitions_of: dict[str, list[int]] = {}
    for number in sorted(catalog.expected):
        if (bundle := catalog.missing(number)) is not None:
            partitions_of.setdefault(str(bundle), []).append(number)
    sentences += [
        f"{bundle}: the newest snapshot of {len(numbers)} partitions should be in it and is not: "
        + ", ".join(map(str, numbers[:10]))
        + (", …" if len(numbers) > 10 else "")
        for bundle, numbers in sorted(partitions_of.items())
    ]
    if catalog.version_1:
        sentences.append(catalog.version_1_problem)
    return sentences


def find_archive(path: Path, cluster: str | None) -> Archive:
    """The archive at `path`: a folder of snapshots, a data dir, or the folder of one cluster.

    `cluster` is an id or the beginning of one. Raises `SettingsError` if no archive matches, or more than one.
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
