"""Which bundles are removed, and which partitions are written again so that old bundles can go. Blocking.

A bundle goes when nothing in it is the newest of its partition any more, `keep` - 1 rounds after that. A bundle that is
kept for a few partitions alone holds up that; so these are written again, a bounded amount per round. Thus all bundles
together take no more than twice what the newest sections take, the last `keep` rounds, and what waits its turn.

Each bundle is looked into once, so the newest section of a partition may have become unreadable since. While a primary has
the data in memory, that does no harm. Without one, an older section is what a restore falls back to. So no section of a
partition is removed before its present primary has written a newer one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

from ringmaster.cluster.view import View
from ringmaster.snapshot import FileName, SnapshotStore
from ringmaster.snapshot.catalog import Catalog, CatalogReader, StoredSection
from ringmaster.snapshot.names import BundleName, ManifestName

MAX_BUNDLES: Final = 32
"""Bundles that this node needs at most, before the smallest are joined."""

REWRITE_BYTES: Final = 16 * 1024 * 1024
"""Written again in a round, at most, or as much as the round before had."""


class Retention:
    """Tidies up for one incarnation: after itself, and after those that are gone. Never removes files in `kept`."""

    def __init__(
        self,
        store: SnapshotStore,
        catalog_reader: CatalogReader,
        incarnation: str,
        keep: int,
        kept: Collection[str],
    ) -> None:
        self._store = store
        self._catalog_reader = catalog_reader
        self._incarnation = incarnation
        self._keep = keep
        self._kept = kept
        self._rounds = 0
        self._superseded: dict[BundleName, int] = {}
        self._highest: deque[int] = deque([0], maxlen=keep + 1)

    def tidy(self, mine: Collection[int], view: View, written: int) -> set[int]:
        """After a round of `written` bytes: remove what is not needed. Raises `OSError`.

        `mine`: partitions that this node writes. Incarnations that `view` lists as up may be writing as well. Returns
        those of `mine` that should be written again in the next round.
        """
        self._rounds += 1
        live = {self._incarnation, *view.up.values()}
        catalog = self._catalog_reader.read()
        own = [name.number for name in catalog.size_of if name.incarnation == self._incarnation]
        self._highest.append(max(own, default=0))
        newest = _newest(catalog)
        ours = [
            name
            for name in catalog.size_of
            if name.incarnation == self._incarnation or name.incarnation not in live
        ]
        surplus = self._surplus(ours, newest, catalog)
        held = _held(surplus, catalog, view)
        removed = [name for name in surplus if name not in held]
        self._store.delete(removed)
        self._store.delete(self._empty_manifests(catalog, live, set(removed)))
        self._store.sweep(live)
        holding = [stored for sections in held.values() for stored in sections]
        waiting = self._waiting(ours, newest, catalog, set(mine))
        return _within(max(written, REWRITE_BYTES), holding + waiting, set(mine))

    def _surplus(
        self,
        ours: list[BundleName],
        newest: dict[BundleName, list[StoredSection]],
        catalog: Catalog,
    ) -> list[BundleName]:
        """Bundles without anything newest for long enough. What is damaged is left to whoever looks into it."""
        damaged = {problem.file for problem in catalog.problems}
        idle = [name for name in ours if name not in newest and str(name) not in damaged]
        self._superseded = {name: self._superseded.get(name, self._rounds) for name in idle}
        return [
            name
            for name, since in self._superseded.items()
            if self._rounds - since >= self._keep - 1 and str(name) not in self._kept
        ]

    def _empty_manifests(
        self, catalog: Catalog, live: Collection[str], removed: set[BundleName]
    ) -> list[FileName]:
        """Manifests of incarnations that are gone, with all their bundles, and name nothing that is missed."""
        left = {name.incarnation for name in catalog.size_of if name not in removed}
        return [
            ManifestName(incarnation)
            for incarnation, manifest in catalog.manifests.items()
            if incarnation not in live
            and incarnation != self._incarnation
            and incarnation not in left
            and not any(
                (missed := catalog.missing(row[0])) and missed.incarnation == incarnation
                for row in manifest.newest
            )
        ]

    def _waiting(
        self,
        ours: list[BundleName],
        newest: dict[BundleName, list[StoredSection]],
        catalog: Catalog,
        mine: set[int],
    ) -> list[StoredSection]:
        """What is newest in old bundles of ours of which little is needed, or of which there are too many."""
        taking = [
            (sum(stored.section.size for stored in newest[name]), name)
            for name in ours
            if name in newest and not self._is_recent(name)
            if any(stored.section.id.partition in mine for stored in newest[name])
        ]
        taking.sort()
        crowd = len(taking) // 2 if len(taking) > MAX_BUNDLES else 0
        return [
            stored
            for rank, (size, name) in enumerate(taking)
            if rank < crowd or size * 2 < catalog.size_of[name]
            for stored in newest[name]
        ]

    def _is_recent(self, name: BundleName) -> bool:
        """Whether it is of our last `keep` rounds, which are kept anyhow."""
        full = len(self._highest) > self._keep
        return name.incarnation == self._incarnation and (
            not full or name.number > self._highest[0]
        )


def _newest(catalog: Catalog) -> dict[BundleName, list[StoredSection]]:
    """What each bundle has that no other has newer."""
    found: dict[BundleName, list[StoredSection]] = {}
    for sections in catalog.sections.values():
        found.setdefault(sections[0].bundle, []).append(sections[0])
    return found


def _held(
    surplus: Collection[BundleName], catalog: Catalog, view: View
) -> dict[BundleName, list[StoredSection]]:
    """Bundles of `surplus` that a restore may have to fall back to, and the newest sections of the partitions that hold each."""
    candidates = set(surplus)
    held: dict[BundleName, list[StoredSection]] = {}
    if not candidates:
        return held
    for number, row in enumerate(view.table):
        sections = catalog.sections.get(number)
        if sections is None or len(sections) < 2:
            continue
        newest, writer = sections[0].section.id, sections[0].bundle.incarnation
        if row.primary and (row.term, view.incarnation(row.primary)) == (newest.term, writer):
            continue
        for name in {stored.bundle for stored in sections[1:]} & candidates:
            held.setdefault(name, []).append(sections[0])
    return held


def _within(budget: int, sections: Collection[StoredSection], mine: Collection[int]) -> set[int]:
    """The partitions among `mine` of the first of `sections`, until they take `budget` bytes."""
    found: set[int] = set()
    for stored in sections:
        number = stored.section.id.partition
        if number in mine and number not in found and budget > 0:
            found.add(number)
            budget -= stored.section.size
    return found
