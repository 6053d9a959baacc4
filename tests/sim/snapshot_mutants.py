"""Switches that break one promise about snapshots and total loss each (R10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import aux.snapshots.restore
import tests.sim.masters
from aux.snapshots.due import DuePartitions
from aux.snapshots.pipeline import SnapshotPipeline
from aux.snapshots.restore import Restorer
from aux.snapshots.retention import Retention
from aux.snapshots.service import SnapshotService
from aux.snapshots.writer import SnapshotWriter
from master.control.planning.observation import Observation
from ringmaster.errors import SnapshotError
from ringmaster.snapshot.names import BundleName
from tests.sim.mutation import Mutants

SNAPSHOT_MUTANTS = mutant = Mutants()


@mutant
def restored_from_an_older_snapshot() -> Iterator[None]:
    """The oldest that is kept is loaded, not the newest."""
    restore = Restorer._restore

    async def reversed_(restorer: Restorer, primary: Any, sections: Any) -> None:
        await restore(restorer, primary, sections[::-1])

    with patch.object(Restorer, "_restore", reversed_):
        yield


@mutant
def damage_taken_for_empty() -> Iterator[None]:
    """What cannot be read at all is taken for a partition without entries."""
    load = Restorer._load

    async def easy(restorer: Restorer, *args: Any) -> bool:
        try:
            await load(restorer, *args)
        except (OSError, SnapshotError):
            return True
        return True

    with patch.object(Restorer, "_load", easy):
        yield


@mutant
def holes_filled_from_an_older_snapshot() -> Iterator[None]:
    """What damage took is looked for in an older snapshot, which may have what was deleted since."""
    restore = Restorer._restore

    async def both(restorer: Restorer, primary: Any, versions: Any) -> None:
        damaged = restorer.damage_log.damaged_files
        await restore(restorer, primary, versions)
        if restorer.damage_log.damaged_files > damaged:
            for file in versions[1:]:
                await restore(restorer, primary, [file])

    with patch.object(Restorer, "_restore", both):
        yield


@mutant
def restored_without_saying_so() -> Iterator[None]:
    """Entries that came back look like any other."""
    plain = [bytes((flags,)) for flags in range(256)]
    with patch.object(aux.snapshots.restore, "_FLAGGED", plain):
        yield


@mutant
def served_before_it_is_restored() -> Iterator[None]:
    """A new primary of a lost partition begins empty."""
    with patch.object(SnapshotService, "start", lambda _service, _primary: False):
        yield


@mutant
def terms_not_above_snapshots() -> Iterator[None]:
    """A coordinator that was set back numbers on from what it knows."""
    with patch.object(Observation, "next_epoch", property(lambda seen: seen.view.epoch + 1)):
        yield


@mutant
def sole_copy_given_up_at_once() -> Iterator[None]:
    """The last copy of a partition hangs for a moment, and is taken for lost."""
    with patch.object(tests.sim.masters, "SOLE_COPY_WAIT_S", 0.0):
        yield


@mutant
def stopped_without_a_last_snapshot() -> Iterator[None]:
    """A clean stop does not seal."""

    async def skip(_writer: SnapshotWriter, _timeout_s: float) -> bool:
        return True

    with patch.object(SnapshotWriter, "seal", skip):
        yield


@mutant
def snapshots_not_renewed() -> Iterator[None]:
    """A partition is written once, whatever changes in it."""

    def once(due: DuePartitions, primary: Any) -> bool:
        return primary.number not in due.saved

    with patch.object(DuePartitions, "_is_dirty", once):
        yield


@mutant
def newest_snapshot_removed() -> Iterator[None]:
    """Retention takes the wrong end."""
    tidy = Retention.tidy

    def wrong(retention: Retention, *args: Any) -> set[int]:
        rewritten = tidy(retention, *args)
        bundles = [
            file.name for file in retention._store.files() if isinstance(file.name, BundleName)
        ]
        retention._store.delete([name for name in bundles if name.number % 3 == 0])
        return rewritten

    with patch.object(Retention, "tidy", wrong):
        yield


@mutant
def snapshot_claims_what_is_pending() -> Iterator[None]:
    """A snapshot is named by what was sequenced, and has what was committed."""
    cut = SnapshotPipeline._cut

    def ahead(pipeline: SnapshotPipeline, primary: Any, **more: Any) -> Any:
        committed = primary.committed
        primary.committed = primary.seq
        try:
            return cut(pipeline, primary, **more)
        finally:
            primary.committed = committed

    with patch.object(SnapshotPipeline, "_cut", ahead):
        yield
