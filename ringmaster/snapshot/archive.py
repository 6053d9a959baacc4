"""Snapshots as a person meets them: verified, listed, read entry by entry. Blocking; needs no cluster."""

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
from ringmaster.snapshot.catalog import Catalog, Place, Survey
from ringmaster.snapshot.directory import LocalDirectory, clusters_in
from ringmaster.snapshot.format import split_payload
from ringmaster.snapshot.reader import Damage, SectionReader

_FOLDER: Final = "snapshots"


@dataclass(slots=True)
class SectionVerdict:
    """What is to be said of a section. `entries`: those that can be read; `total`: None if nobody knows."""

    place: Place
    entries: int = 0
    total: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every byte of it is as it was written."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a section. `version` as clients know it."""

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

    def catalog(self) -> Catalog:
        """What there is. Raises `OSError`."""
        return Survey(self._store, self.cluster, None).look()

    def verify(self, place: Place) -> SectionVerdict:
        """Read every byte of a section."""
        verdict = SectionVerdict(place)
        number, partitions = place.section.mark.partition, place.header.partitions
        try:
            for record in self._records(verdict):
                if partition_of(record.key, partitions) != number:
                    verdict.problems.append(f"the key {record.key!r} belongs to another partition")
        except OSError as error:
            verdict.problems.append(str(error))
        return verdict

    def records(self) -> Iterator[Record]:
        """The entries of the newest readable section of each partition, as a restore would take them, oldest first."""
        catalog = self.catalog()
        self.problems += file_problems(catalog)
        for number in sorted(catalog.places):
            for place in catalog.places[number]:
                verdict = SectionVerdict(place)
                try:
                    yield from self._records(verdict)
                except OSError as error:
                    verdict.problems.append(str(error))
                where = f"{place.name}, partition {number}"
                self.problems += [f"{where}: {problem}" for problem in verdict.problems]
                if verdict.entries or verdict.sound or verdict.total == 0:
                    break

    def _records(self, verdict: SectionVerdict) -> Iterator[Record]:
        place = verdict.place
        with self._store.open(place.name) as stream:
            reader = SectionReader(stream, place.header.sync, place.section)
            for item in reader.blocks():
                verdict.total = reader.entries
                if isinstance(item, Damage):
                    verdict.problems.append(str(item))
                    continue
                try:
                    pairs = split_payload(item.raw, item.entries)
                    records = list(self._decoded(place.section.mark.partition, *pairs))
                except (SnapshotDamaged, msgspec.MsgspecError, ValueError) as error:
                    verdict.problems.append(f"block {item.position}: {error}")
                    continue
                verdict.entries += len(records)
                yield from records
            verdict.total = reader.entries

    def _decoded(
        self, number: int, keys: Sequence[bytes], entries: Sequence[bytes]
    ) -> Iterator[Record]:
        for key, entry in zip(keys, entries, strict=True):
            decoded = header(entry)
            offset = value_offset(entry)
            if offset > len(entry):
                raise SnapshotDamaged(f"the entry of {key!r} is cut off")
            version = f"{decoded.term:x}-{decoded.seq:x}-{self.cluster[:8]}"
            yield Record(number, key, version, decoded, meta_of(entry), entry[offset:])


def file_problems(catalog: Catalog) -> list[str]:
    """What is wrong with whole files, and what is missing, a sentence each."""
    found = [f"{problem.file}: damaged, {problem.reason}" for problem in catalog.problems]
    missed: dict[str, list[int]] = {}
    for number in sorted(catalog.named):
        if (name := catalog.missing(number)) is not None:
            missed.setdefault(str(name), []).append(number)
    found += [
        f"{name}: the newest snapshot of {len(numbers)} partitions should be in it and is not: "
        + ", ".join(map(str, numbers[:10]))
        + (", …" if len(numbers) > 10 else "")
        for name, numbers in sorted(missed.items())
    ]
    if catalog.old:
        found.append(catalog.unreadable_version)
    return found


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
