"""What a store has: the sections of every bundle, and what the manifests say should be there. Blocking.

Bundles never change, so each is looked into once. Where this thread only computes, it lets the one that serves requests
have the interpreter now and then: that would otherwise wait 5 ms for it.
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
from ringmaster.snapshot.names import BundleName, ManifestName, OldName
from ringmaster.snapshot.reader import check_identity, read_contents

_STEP: Final = 256


class Place(NamedTuple):
    """A section and the bundle it is in."""

    section: Section
    name: BundleName
    header: BundleHeader


def _order(place: Place) -> tuple[int, int, int]:
    """Of two places of a partition the higher is the newer; what is written twice counts where it was written last."""
    _, term, seq = place.section.mark
    return term, seq, place.name.number


class Named(NamedTuple):
    """The newest section of a partition that a manifest names, and the bundle that should have it."""

    version: tuple[int, int]
    name: BundleName


class Problem(NamedTuple):
    """A file that is not as it should be. `unreadable`: nothing of it can be used."""

    file: str
    reason: str
    unreadable: bool = False


@dataclass(slots=True)
class Catalog:
    """`places`: of each partition, newest first. `named`: what manifests name. `size_of`: bytes of each bundle."""

    places: dict[int, list[Place]] = field(default_factory=dict)
    named: dict[int, Named] = field(default_factory=dict)
    size_of: dict[BundleName, int] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    old: list[OldName] = field(default_factory=list)

    @property
    def is_blank(self) -> bool:
        """Whether nothing of ours was ever written here, or all of it is gone."""
        return not (self.size_of or self.manifests)

    @property
    def highest_term(self) -> int:
        """The highest term of anything that is or should be here."""
        terms = [places[0].section.mark.term for places in self.places.values()]
        terms += [named.version[0] for named in self.named.values()]
        return max([*terms, *(name.term for name in self.old)], default=0)

    @property
    def unreadable_version(self) -> str:
        """A sentence about the files of version 1; empty if there are none."""
        if not self.old:
            return ""
        count = f"and {len(self.old) - 1} more have" if len(self.old) > 1 else "has"
        return f"{self.old[0]} {count} the format's version 1; this one reads version 2 only"

    def missing(self, partition: int) -> BundleName | None:
        """The bundle that should have a newer section of the partition than there is; None if nothing is missed."""
        named, places = self.named.get(partition), self.places.get(partition)
        if named is None or (places and places[0].section.mark.version >= named.version):
            return None
        return named.name


class Survey:
    """Looks at a store again and again. For one caller at a time."""

    def __init__(self, store: SnapshotStore, cluster: str, partitions: int | None) -> None:
        """`partitions`: how many the cluster has; None: as every file says."""
        self._store = store
        self._cluster = cluster
        self._partitions = partitions
        self._known: dict[tuple[BundleName, int], tuple[list[Problem], list[Place]]] = {}

    def look(self) -> Catalog:
        """What is there now. Raises `OSError` if that cannot be listed."""
        catalog = Catalog()
        files = self._store.files()
        seen = set()
        for file in files:
            if isinstance(file.name, BundleName):
                seen.add((file.name, file.size))
                self._add_bundle(catalog, file.name, file.size)
            elif isinstance(file.name, ManifestName):
                self._add_manifest(catalog, file.name)
            else:
                catalog.old.append(file.name)
        self._known = {key: found for key, found in self._known.items() if key in seen}
        for done, places in enumerate(catalog.places.values()):
            if len(places) > 1:
                places.sort(key=_order, reverse=True)
            if not done % _STEP:
                sleep(0)
        without = {name.incarnation for name in catalog.size_of} - _incarnations(files)
        catalog.problems += [
            Problem(str(ManifestName(each)), "it is missing, so bundles may be missing as well")
            for each in sorted(without)
        ]
        return catalog

    def _add_bundle(self, catalog: Catalog, name: BundleName, size: int) -> None:
        found = self._known.get((name, size))
        if found is None:
            try:
                found = self._read(name)
            except FileNotFoundError:
                return  # removed since it was listed
            except (OSError, SnapshotError) as error:
                catalog.size_of[name] = size
                catalog.problems.append(Problem(str(name), str(error), unreadable=True))
                return
            self._known[name, size] = found
        problems, places = found
        catalog.size_of[name] = size
        catalog.problems += problems
        by_partition = catalog.places
        for place in places:
            by_partition.setdefault(place.section.mark.partition, []).append(place)
        sleep(0)

    def _read(self, name: BundleName) -> tuple[list[Problem], list[Place]]:
        with self._store.open(name) as stream:
            contents = read_contents(stream)
        partitions = self._partitions or contents.header.partitions
        check_identity(contents.header, name, self._cluster, partitions)
        return (
            [Problem(str(name), text) for text in contents.problems],
            [Place(section, name, contents.header) for section in contents.sections],
        )

    def _add_manifest(self, catalog: Catalog, name: ManifestName) -> None:
        try:
            with self._store.open(name) as stream:
                manifest = decode_manifest(stream.read())
            if (manifest.cluster, manifest.incarnation) != (self._cluster, name.incarnation):
                raise SnapshotUnreadable("it belongs elsewhere")
        except FileNotFoundError:
            return
        except (OSError, SnapshotError) as error:
            catalog.problems.append(Problem(str(name), str(error), unreadable=True))
            return
        catalog.manifests[name.incarnation] = manifest
        for partition, term, seq, number in manifest.newest:
            found = Named((term, seq), BundleName(name.incarnation, number))
            known = catalog.named.get(partition)
            if known is None or known.version < found.version:
                catalog.named[partition] = found


def _incarnations(files: Iterable[StoredFile]) -> set[str]:
    """Those that have a manifest, readable or not."""
    return {file.name.incarnation for file in files if isinstance(file.name, ManifestName)}
