"""Moving a mended table towards its target (R7), a throttled step at a time: fill, hand over, remove. Pure.

A partition moves in that order: its new copies are filled, then the planned primary takes over from the old one, which
stays in sync, then copies that are too many go.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum

from master.judgement import Verdicts
from master.observation import Observation, Target
from ringmaster.view import Filling, Partition


class _Urgency(IntEnum):
    """Why a copy is to be filled; the most urgent first."""

    REPAIR = 0
    DRAIN = 1
    BALANCE = 2


class Mover:
    """Changes `rows` in place for the view of `epoch`. `reasons` counts what was done."""

    def __init__(
        self, rows: list[Partition], seen: Observation, verdicts: Verdicts, target: Target
    ) -> None:
        self.reasons: Counter[str] = Counter()
        self._rows = rows
        self._seen = seen
        self._settings = seen.settings
        self._verdicts = verdicts
        self._target = target
        self._epoch = seen.next_epoch
        self._draining = frozenset(node for node in seen.view.nodes if verdicts.is_draining(node))
        # An operator's pause stops moves for balance; a drain is an operator's wish as well and goes on.
        self._may_balance = not seen.paused and seen.stable_for_s >= seen.settings.settle_s

    def run(self) -> None:
        """One step of everything that is due."""
        for number, row in enumerate(self._rows):
            if row.primary is not None:
                self._rows[number] = self._without_surplus(
                    number, self._without_stray_fills(number, row)
                )
        self._hand_over()
        self._fill()

    # -- removing

    def _without_stray_fills(self, number: int, row: Partition) -> Partition:
        """A fill that leads nowhere any more ends."""
        wanted = self._target.rows[number]
        if not wanted or all(filling.node in wanted for filling in row.filling):
            return row
        kept = tuple(filling for filling in row.filling if filling.node in wanted)
        self.reasons["fills given up"] += len(row.filling) - len(kept)
        return Partition(row.primary, row.replicas, kept, row.term, row.awaits)

    def _without_surplus(self, number: int, row: Partition) -> Partition:
        """Replicas beyond the target go once all of the target is in sync; below R only those that drain."""
        wanted = self._target.rows[number]
        in_sync = row.in_sync
        if row.awaits is not None or not wanted or not set(wanted) <= set(in_sync):
            return row
        kept = list(row.replicas)
        # Not even a copy that nobody asked to go: the target may be short of nodes for a moment.
        for node in [node for node in row.replicas if node not in wanted]:
            if node in self._draining or len(kept) >= self._settings.replicas:
                kept.remove(node)
        if len(kept) == len(row.replicas) or row.primary not in wanted:
            return row
        self.reasons["surplus copies removed"] += len(row.replicas) - len(kept)
        return Partition(row.primary, tuple(kept), row.filling, row.term, None)

    # -- handing over

    def _hand_over(self) -> None:
        room = self._settings.max_handovers - sum(1 for row in self._rows if row.awaits is not None)
        for number, row in enumerate(self._rows):
            if room <= 0:
                return
            successor = self._successor(number, row)
            if successor is None or row.primary is None:
                continue
            room -= 1
            self.reasons[f"handed over to {successor}"] += 1
            replicas = (*(node for node in row.replicas if node != successor), row.primary)
            filling = tuple(Filling(item.node, self._epoch) for item in row.filling)
            self._rows[number] = Partition(successor, replicas, filling, self._epoch, row.primary)

    def _successor(self, number: int, row: Partition) -> str | None:
        """Who should become primary now, if anyone."""
        wanted, primary = self._target.rows[number], row.primary
        if not wanted or primary is None or primary == wanted[0] or row.awaits is not None:
            return None
        # One step per row and view: who joins the in-sync copies is seen to be one before anything rests on it, and a
        # node that a view lists as filling is never promoted by the next.
        if row != self._seen.view.table[number]:
            return None
        draining = primary in self._draining
        if not draining and (not self._may_balance or row.filling):
            return None
        if not self._serves(number, row, primary):
            return None
        # From a draining node to any copy of the target; for balance to the planned primary alone.
        for node in wanted if draining else wanted[:1]:
            if node in row.replicas and self._verdicts.is_live(node):
                return node
        return None

    def _serves(self, number: int, row: Partition, primary: str) -> bool:
        status = self._verdicts.status(primary) if self._verdicts.is_live(primary) else None
        return status is not None and status.epoch >= row.term and number not in status.awaiting

    # -- filling

    def _fill(self) -> None:
        busy = Counter(filling.node for row in self._rows for filling in row.filling)
        room = self._settings.max_fills - busy.total()
        due = sorted(
            (urgency, -len(missing), number)
            for number, row in enumerate(self._rows)
            for missing in [self._missing(number, row)]
            for urgency in [self._urgency(number, row)]
            if missing and (urgency is not _Urgency.BALANCE or self._may_balance)
        )
        for _, _, number in due:
            for node in self._missing(number, self._rows[number]):
                if room <= 0:
                    return
                if busy[node] >= self._settings.max_fills_per_node:
                    continue
                row = self._rows[number]
                filling = (*row.filling, Filling(node, self._epoch))
                self._rows[number] = Partition(
                    row.primary, row.replicas, filling, row.term, row.awaits
                )
                busy[node] += 1
                room -= 1
                self.reasons[f"filling {node}"] += 1

    def _missing(self, number: int, row: Partition) -> list[str]:
        if row.primary is None or not self._verdicts.is_live(row.primary):
            return []
        present = {*row.in_sync, *(filling.node for filling in row.filling)}
        return [
            node
            for node in self._target.rows[number]
            if node not in present and self._verdicts.is_live(node)
        ]

    def _urgency(self, number: int, row: Partition) -> _Urgency:
        goal = min(self._settings.replicas, len(self._target.rows[number]))
        if len(row.in_sync) + len(row.filling) < goal:
            return _Urgency.REPAIR
        if self._draining.intersection(row.in_sync):
            return _Urgency.DRAIN
        return _Urgency.BALANCE
