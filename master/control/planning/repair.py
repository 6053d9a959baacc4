"""Repair rows of the table after failures (R3, R5, R6, R10). Pure.

A repaired row lists no void copy. It never loses its last in-sync copy by choice: while no other in-sync copy is live,
a node whose lease lapsed stays listed, since nobody else has the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from master.control.planning.node_verdicts import Verdict, Verdicts
from master.control.planning.observation import Observation, Target
from ringmaster.cluster.node_status import CopyReport
from ringmaster.cluster.view import Filling, Partition


class Repair:
    """Repairs rows for the view of `epoch`. `reasons` counts the changes; `lagging` the copies dropped, by node."""

    def __init__(self, seen: Observation, verdicts: Verdicts, target: Target) -> None:
        self.epoch = seen.next_epoch
        self.reasons: Counter[str] = Counter()
        self.lagging: Counter[str] = Counter()
        self._seen = seen
        self._verdicts = verdicts
        self._target = target
        self._primaries = Counter(row.primary for row in seen.view.table if row.primary is not None)
        self._lagging, self._caught_up = self._reports()
        self._healthy = frozenset(
            node
            for node in seen.view.nodes
            if verdicts.is_live(node)
            and not (node in seen.statuses and seen.statuses[node].status.restoring)
        )
        waited = seen.stable_for_s >= seen.settings.bootstrap_wait_s
        expected = 0 < seen.settings.expect_nodes <= len(target.nodes)
        self._may_appoint = waited or expected

    def _reports(self) -> tuple[dict[int, list[CopyReport]], dict[int, list[CopyReport]]]:
        """Copies reported as lagging and as caught up by the primaries, in their present terms, by partition.

        Reports of lagging copies also count from an awaited predecessor: while it waits for such a copy, nobody serves.
        """
        lagging: dict[int, list[CopyReport]] = {}
        caught_up: dict[int, list[CopyReport]] = {}
        table = self._seen.view.table
        for node in self._seen.view.nodes:
            status = self._verdicts.status(node)
            if status is None:
                continue
            for kind, reports in ((lagging, status.lagging), (caught_up, status.caught_up)):
                for report in reports:
                    if 0 <= report.partition < len(table):
                        row = table[report.partition]
                        if (row.primary, row.term) == (node, report.term) or (
                            kind is lagging and row.awaits == node and report.term < row.term
                        ):
                            kind.setdefault(report.partition, []).append(report)
        return lagging, caught_up

    def repaired(self, number: int, row: Partition) -> Partition:
        """The row without failed copies, with those that caught up, and with a primary if there is a candidate.

        Short way for healthy rows, which are most even when a node died; `World.step` of the planning machine
        (`tests/stateful/planning_world.py`) compares it with `examined` for every row.
        """
        healthy = self._healthy
        if (
            row.primary in healthy
            and row.awaits is None
            and healthy.issuperset(row.replicas)
            and (not row.filling or all(item.node in healthy for item in row.filling))
            and number not in self._lagging
            and number not in self._caught_up
        ):
            return row
        return self.examined(number, row)

    def examined(self, number: int, row: Partition) -> Partition:
        """`repaired`, for any row."""
        in_sync = self._surviving(number, row)
        filling = self._surviving_fillings(number, row)
        if row.primary is not None and row.primary in in_sync and self._needs_term(number, row):
            self.reasons["given a term above its snapshot's"] += 1
            others = tuple(node for node in in_sync if node != row.primary)
            return Partition(row.primary, others, self._restarted(filling), self.epoch, None)
        if row.primary is not None and row.primary in in_sync:
            kept = Partition(
                row.primary,
                tuple(node for node in in_sync if node != row.primary),
                filling,
                row.term,
                self._awaited(number, row),
            )
            return self._admit_caught_up(number, kept)
        candidates = [node for node in in_sync if self._verdicts.is_live(node)]
        if candidates:
            return self._promote(row, in_sync, filling, self._best(number, candidates))
        if in_sync:
            return Partition(None, tuple(in_sync), (), row.term, self._unreleased(row))
        if row.primary is not None or row.replicas:
            self.reasons["lost its last copy"] += 1
            return Partition(None, (), (), row.term, None)
        return self._appoint(number, row)

    def _needs_term(self, number: int, row: Partition) -> bool:
        """Whether the primary cannot restore in its term, because a snapshot has a higher one (R10)."""
        status = None if row.primary is None else self._verdicts.status(row.primary)
        return (
            status is not None and row.term <= status.snapshot_term and number in status.restoring
        )

    def _surviving(self, number: int, row: Partition) -> list[str]:
        verdicts = self._verdicts
        in_sync = [node for node in row.in_sync if not verdicts.is_void(node)]
        if row.primary is not None and verdicts.is_live(row.primary):
            lagging = {
                report.node
                for report in self._lagging.get(number, ())
                if report.node != row.primary
            }
            for node in lagging & set(in_sync):
                in_sync.remove(node)
                self.lagging[node] += 1
        if any(verdicts.is_live(node) for node in in_sync):
            return [node for node in in_sync if not verdicts.is_silent(node)]
        wait = self._seen.settings.sole_copy_wait_s
        if in_sync and all(
            verdicts.is_silent(node) and verdicts.silent_for_s(node) >= wait for node in in_sync
        ):
            return []
        return in_sync

    def _surviving_fillings(self, number: int, row: Partition) -> tuple[Filling, ...]:
        lagging = {(report.node, report.session) for report in self._lagging.get(number, ())}
        kept = []
        for filling in row.filling:
            if self._verdicts.of(filling.node) not in (Verdict.LIVE, Verdict.LIMBO):
                continue
            if (filling.node, filling.session) in lagging:
                self.lagging[filling.node] += 1
                continue
            kept.append(filling)
        return tuple(kept)

    def _admit_caught_up(self, number: int, row: Partition) -> Partition:
        reports = self._caught_up.get(number)
        if not reports or row.primary is None:
            return row
        done = {(report.node, report.session) for report in reports}
        joined = tuple(
            filling.node
            for filling in row.filling
            if (filling.node, filling.session) in done and self._verdicts.is_live(filling.node)
        )
        self.reasons["copies in sync"] += len(joined)
        rest = tuple(filling for filling in row.filling if filling.node not in joined)
        return Partition(row.primary, row.replicas + joined, rest, row.term, row.awaits)

    # -- who serves

    def _awaited(self, number: int, row: Partition) -> str | None:
        """The predecessor to wait for; None once the primary serves, or its predecessor has stopped or is fenced."""
        if self._unreleased(row) is None or row.primary is None:
            return None
        status = self._verdicts.status(row.primary)
        if status is not None and status.epoch >= row.term and number not in status.awaiting:
            return None
        # It tells its successor as well, but the two may be cut off from each other.
        before = self._verdicts.status(row.awaits) if row.awaits is not None else None
        if before is not None and (number, row.term) in before.released:
            return None
        return row.awaits

    def _unreleased(self, row: Partition) -> str | None:
        """The awaited predecessor, unless it is void or fenced, already or by this very plan."""
        if (
            row.awaits is None
            or self._verdicts.is_void(row.awaits)
            or self._verdicts.is_silent(row.awaits)
        ):
            return None
        return row.awaits

    def _promote(
        self,
        row: Partition,
        in_sync: Sequence[str],
        filling: tuple[Filling, ...],
        primary: str,
    ) -> Partition:
        """`primary` takes over from a fenced one. A predecessor of that one which has not released yet is awaited."""
        awaited = self._unreleased(row)
        if awaited is not None and awaited in in_sync and self._verdicts.is_live(awaited):
            primary = awaited
        self._primaries[primary] += 1
        self.reasons[f"promoted on {primary}"] += 1
        return Partition(
            primary,
            tuple(node for node in in_sync if node != primary),
            self._restarted(filling),
            self.epoch,
            None if awaited == primary else awaited,
        )

    def _restarted(self, filling: tuple[Filling, ...]) -> tuple[Filling, ...]:
        """The fills as a new primary begins them: in sessions of its own term."""
        return tuple(Filling(item.node, self.epoch) for item in filling)

    def _best(self, number: int, candidates: Sequence[str]) -> str:
        wanted = self._target.rows[number]

        def cost(node: str) -> tuple[bool, int, int, str]:
            rank = wanted.index(node) if node in wanted else len(wanted)
            return self._verdicts.is_draining(node), rank, self._primaries[node], node

        return min(candidates, key=cost)

    def _appoint(self, number: int, row: Partition) -> Partition:
        """Appoint a primary for a partition that has lost every copy, or never had one.

        The first time all copies are appointed at once: all are empty. After a loss the new primary must first have
        adopted the view that lists no copy, so that nothing it held before is taken for the partition's content.
        """
        if not self._may_appoint:
            return row
        wanted = [node for node in self._target.rows[number] if self._verdicts.is_live(node)]
        if row.term:
            wanted = [node for node in wanted if self._has_adopted_view(node)][:1]
        if not wanted:
            return row
        self.reasons[f"{'appointed anew' if row.term else 'appointed'} on {wanted[0]}"] += 1
        return Partition(wanted[0], tuple(wanted[1:]), (), self.epoch, None)

    def _has_adopted_view(self, node: str) -> bool:
        status = self._verdicts.status(node)
        return status is not None and status.epoch >= self._seen.view.epoch
