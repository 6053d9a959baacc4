"""Which bundles are removed, and which partitions are written again so that old bundles can go. Blocking.

A bundle goes when nothing in it is the newest of its partition any more, `keep` - 1 rounds after that. A bundle that is
kept for a few partitions alone holds up that; so these are written again, a bounded amount per round. Thus all bundles
together take no more than twice what the newest sections take, the last `keep` rounds, and what waits its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

from ringmaster.snapshot import FileName, SnapshotStore
from ringmaster.snapshot.catalog import Catalog, Place, Survey
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
        survey: Survey,
        incarnation: str,
        keep: int,
        kept: Collection[str],
    ) -> None:
        self._store = store
        self._survey = survey
        self._incarnation = incarnation
        self._keep = keep
        self._kept = kept
        self._rounds = 0
        self._superseded: dict[BundleName, int] = {}
        self._highest: deque[int] = deque([0], maxlen=keep + 1)

    def tidy(self, mine: Collection[int], live: Collection[str], written: int) -> set[int]:
        """After a round of `written` bytes: remove what is not needed. Raises `OSError`.

        `mine`: partitions that this node writes; `live`: incarnations that may be writing. Returns those of `mine` that
        should be written again in the next round.
        """
        self._rounds += 1
        catalog = self._survey.look()
        own = [name.number for name in catalog.size_of if name.incarnation == self._incarnation]
        self._highest.append(max(own, default=0))
        newest = _newest(catalog)
        ours = [
            name
            for name in catalog.size_of
            if name.incarnation == self._incarnation or name.incarnation not in live
        ]
        removed = self._surplus(ours, newest, catalog)
        self._store.delete(removed)
        self._store.delete(self._empty_manifests(catalog, live, set(removed)))
        self._store.sweep({*live, self._incarnation})
        return self._rewritten(ours, newest, catalog, set(mine), max(written, REWRITE_BYTES))

    def _surplus(
        self, ours: list[BundleName], newest: dict[BundleName, list[Place]], catalog: Catalog
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

    def _rewritten(
        self,
        ours: list[BundleName],
        newest: dict[BundleName, list[Place]],
        catalog: Catalog,
        mine: set[int],
        budget: int,
    ) -> set[int]:
        """Partitions of ours in old bundles of which little is needed, or of which there are too many."""
        taking = [
            (sum(place.section.size for place in newest[name]), name)
            for name in ours
            if name in newest and not self._is_recent(name)
            if any(place.section.mark.partition in mine for place in newest[name])
        ]
        taking.sort()
        crowd = len(taking) // 2 if len(taking) > MAX_BUNDLES else 0
        found: set[int] = set()
        for place_in_line, (size, name) in enumerate(taking):
            if place_in_line >= crowd and size * 2 >= catalog.size_of[name]:
                continue
            for place in newest[name]:
                if place.section.mark.partition in mine and budget > 0:
                    found.add(place.section.mark.partition)
                    budget -= place.section.size
        return found

    def _is_recent(self, name: BundleName) -> bool:
        """Whether it is of our last `keep` rounds, which are kept anyhow."""
        full = len(self._highest) > self._keep
        return name.incarnation == self._incarnation and (
            not full or name.number > self._highest[0]
        )


def _newest(catalog: Catalog) -> dict[BundleName, list[Place]]:
    """What each bundle has that no other has newer."""
    found: dict[BundleName, list[Place]] = {}
    for places in catalog.places.values():
        found.setdefault(places[0].name, []).append(places[0])
    return found
