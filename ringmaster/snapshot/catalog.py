"""The catalog of a store: the sections of every bundle, and which sections the manifests say should exist. Blocking.

Bundles never change, so each is read once. The pure computation here calls `sleep(0)` now and then to release the
interpreter lock: otherwise the thread that serves requests would wait 5 ms for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import sleep
from typing import Final, NamedTuple

from ringmaster.errors import SnapshotError, SnapshotUnreadable
from ringmaster.snapshot import SnapshotStore, StoredFile
from ringmaster.snapshot.format import BundleHeader
from ringmaster.snapshot.index import Manifest, Section, decode_manifest
from ringmaster.snapshot.names import BundleName, ManifestName, Version1Name
from ringmaster.snapshot.reader import check_identity, read_contents

_YIELD_EVERY: Final = 256
"""Partitions sorted between two releases of the interpreter lock."""


class StoredSection(NamedTuple):
    """A section and the bundle it is in."""

    section: Section
    bundle: BundleName
    header: BundleHeader


def _age_order(stored: StoredSection) -> tuple[int, int, int]:
    """Sorts the sections of a partition, oldest first. Of two with the same version, the one written later is newer."""
    _, term, seq = stored.section.id
    return term, seq, stored.bundle.number


class ExpectedSection(NamedTuple):
    """The newest section of a partition according to the manifests, and the bundle that should have it."""

    version: tuple[int, int]
    bundle: BundleName


class Problem(NamedTuple):
    """What is wrong with a file."""

    file: str
    reason: str


@dataclass(slots=True)
class Catalog:
    """`sections`: of each partition, newest first. `expected`: by partition. `size_of`: bytes of each bundle.

    `manifests`: by incarnation. `version_1`: files of the format's version 1, which cannot be read.
    """

    sections: dict[int, list[StoredSection]] = field(default_factory=dict)
    expected: dict[int, ExpectedSection] = field(default_factory=dict)
    size_of: dict[BundleName, int] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    version_1: list[Version1Name] = field(default_factory=list)

    @property
    def is_blank(self) -> bool:
        """Whether there is neither a bundle nor a manifest: nothing was ever written here, or all of it is gone."""
        return not (self.size_of or self.manifests)

    @property
    def highest_term(self) -> int:
        """The highest term of any section that exists or should exist."""
        terms = [sections[0].section.id.term for sections in self.sections.values()]
        terms += [expected.version[0] for expected in self.expected.values()]
        return max([*terms, *(name.term for name in self.version_1)], default=0)

    @property
    def version_1_problem(self) -> str:
        """A sentence about the files of version 1; empty if there are none."""
        if not self.version_1:
            return ""
        more = len(self.version_1) - 1
        have = f"and {more} more have" if more else "has"
        return f"{self.version_1[0]} {have} format version 1; this program reads version 2 only"

    def missing(self, partition: int) -> BundleName | None:
        """The bundle that should have a newer section of the partition than any that exists; None if none is missing."""
        expected, sections = self.expected.get(partition), self.sections.get(partition)
        if expected is None or (sections and sections[0].section.id.version >= expected.version):
            return None
        return expected.bundle


class CatalogReader:
    """Reads the catalog of a store, as often as it is asked to. For one caller at a time."""

    def __init__(self, store: SnapshotStore, cluster: str, partitions: int | None) -> None:
        """`partitions`: how many the cluster has; None: accept what each file says."""
        self._store = store
        self._cluster = cluster
        self._partitions = partitions
        self._known: dict[tuple[BundleName, int], tuple[list[Problem], list[StoredSection]]] = {}

    def read(self) -> Catalog:
        """The catalog as of now. Raises `OSError` if the files cannot be listed."""
        catalog = Catalog()
        files = self._store.files()
        listed = set()
        for file in files:
            if isinstance(file.name, BundleName):
                listed.add((file.name, file.size))
                self._add_bundle(catalog, file.name, file.size)
            elif isinstance(file.name, ManifestName):
                self._add_manifest(catalog, file.name)
            else:
                catalog.version_1.append(file.name)
        self._known = {key: found for key, found in self._known.items() if key in listed}
        for done, sections in enumerate(catalog.sections.values()):
            if len(sections) > 1:
                sections.sort(key=_age_order, reverse=True)
            if not done % _YIELD_EVERY:
                sleep(0)
        without_manifest = {name.incarnation for name in catalog.size_of} - _with_manifest(files)
        catalog.problems += [
            Problem(
                str(ManifestName(incarnation)), "it is missing, so bundles may be missing as well"
            )
            for incarnation in sorted(without_manifest)
        ]
        return catalog

    def _add_bundle(self, catalog: Catalog, name: BundleName, size: int) -> None:
        found = self._known.get((name, size))
        if found is None:
            try:
                found = self._read_bundle(name)
            except FileNotFoundError:
                return  # removed after it was listed
            except (OSError, SnapshotError) as error:
                catalog.size_of[name] = size
                catalog.problems.append(Problem(str(name), str(error)))
                return
            self._known[name, size] = found
        problems, sections = found
        catalog.size_of[name] = size
        catalog.problems += problems
        by_partition = catalog.sections
        for stored in sections:
            by_partition.setdefault(stored.section.id.partition, []).append(stored)
        sleep(0)

    def _read_bundle(self, name: BundleName) -> tuple[list[Problem], list[StoredSection]]:
        with self._store.open(name) as stream:
            contents = read_contents(stream)
        partitions = self._partitions or contents.header.partitions
        check_identity(contents.header, name, self._cluster, partitions)
        return (
            [Problem(str(name), text) for text in contents.problems],
            [StoredSection(section, name, contents.header) for section in contents.sections],
        )

    def _add_manifest(self, catalog: Catalog, name: ManifestName) -> None:
        try:
            with self._store.open(name) as stream:
                manifest = decode_manifest(stream.read())
            if (manifest.cluster, manifest.incarnation) != (self._cluster, name.incarnation):
                raise SnapshotUnreadable("it belongs to another cluster or incarnation")
        except FileNotFoundError:
            return
        except (OSError, SnapshotError) as error:
            catalog.problems.append(Problem(str(name), str(error)))
            return
        catalog.manifests[name.incarnation] = manifest
        for partition, term, seq, number in manifest.newest:
            found = ExpectedSection((term, seq), BundleName(name.incarnation, number))
            known = catalog.expected.get(partition)
            if known is None or known.version < found.version:
                catalog.expected[partition] = found


def _with_manifest(files: Iterable[StoredFile]) -> set[str]:
    """The incarnations that have a manifest, readable or not."""
    return {file.name.incarnation for file in files if isinstance(file.name, ManifestName)}
