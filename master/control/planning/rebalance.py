"""Move a repaired table towards its target (R7), one throttled step at a time: fill, hand over, remove. Pure.

A partition moves in that order: its new copies are filled, then the planned primary takes over from the old one, which
stays in sync, then surplus copies go. Between two live nodes that are cut off from each other nothing moves: other
nodes take the missing copies, and a hand-over between the two is reversed.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum

from master.control.planning.node_verdicts import CUT_OFF_S, Verdicts
from master.control.planning.observation import Observation, Target
from ringmaster.cluster.view import Filling, Partition
from ringmaster.placement.placement import Row


class _Urgency(IntEnum):
    """Why a copy is filled; the most urgent first."""

    REPAIR = 0
    DRAIN = 1
    BALANCE = 2


class RebalanceStep:
    """One step of everything that is due: changes `rows` in place. `reasons` counts the changes."""

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
        self._live = frozenset(node for node in seen.view.nodes if verdicts.is_live(node))
        # A pause stops moves for balance only: a drain was asked for as well, and goes on.
        self._may_balance = not seen.paused and seen.stable_for_s >= seen.settings.settle_s
        # All other rows are at their target already.
        self._unsettled = [
            number
            for number, (row, wanted) in enumerate(zip(rows, target.rows, strict=True))
            if row.primary is not None
            and (row.awaits is not None or row.filling or row.in_sync != wanted)
        ]
        self._copies: Counter[str] | None = None

    def run(self) -> None:
        """Change the rows."""
        for number in self._unsettled:
            row = self._rows[number]
            if row.filling:
                row = self._without_stray_fills(number, row)
            if len(row.in_sync) > len(self._target.rows[number]):
                row = self._without_surplus(number, row)
            self._rows[number] = row
        if self._seen.cut_off_for_s:
            self._reverse_handovers()
        self._hand_over()
        self._fill()

    # -- where copies can be had

    def _wanted(self, number: int, row: Partition) -> Row:
        """The target, without nodes that the primary cannot fill because the two are cut off from each other.

        Copies that exist already stand in for those, then other nodes where redundancy is lacking.
        """
        wanted, primary = self._target.rows[number], row.primary
        if not self._seen.cut_off_for_s or primary is None:
            return wanted
        out_of_reach = {
            node
            for node in wanted
            if node not in row.in_sync and self._verdicts.cut_off_for_s(primary, node) >= CUT_OFF_S
        }
        if not out_of_reach:
            return wanted
        kept = [node for node in wanted if node not in out_of_reach]
        filling = [item.node for item in row.filling]
        present = [node for node in row.in_sync if node not in self._draining]
        # A fill that has begun goes on, so that the choice stays the same from view to view.
        for node in (*present, *filling, *self._others(row)):
            if len(kept) == len(wanted):
                break
            if node not in kept and self._verdicts.cut_off_for_s(primary, node) < CUT_OFF_S:
                kept.append(node)
        return tuple(kept)

    def _others(self, row: Partition) -> list[str]:
        """Members without an in-sync copy of `row`: other zones first, then those with the fewest copies."""
        if self._copies is None:
            self._copies = Counter(
                node
                for each in self._rows
                for node in (*each.in_sync, *(item.node for item in each.filling))
            )
        copies = self._copies
        zones = {node.zone for node in self._target.nodes if node.id in row.in_sync and node.zone}
        members = [node for node in self._target.nodes if self._verdicts.is_live(node.id)]
        members.sort(key=lambda node: (node.zone in zones, copies[node.id], node.id))
        return [node.id for node in members if node.id not in row.in_sync]

    # -- removing

    def _without_stray_fills(self, number: int, row: Partition) -> Partition:
        """Give up fills of nodes that should not hold a copy any more."""
        wanted = self._wanted(number, row)
        if not wanted or all(filling.node in wanted for filling in row.filling):
            return row
        kept = tuple(filling for filling in row.filling if filling.node in wanted)
        self.reasons["fills given up"] += len(row.filling) - len(kept)
        return Partition(row.primary, row.replicas, kept, row.term, row.awaits)

    def _without_surplus(self, number: int, row: Partition) -> Partition:
        """Remove replicas beyond the target once all of the target is in sync; below R only draining ones."""
        wanted = self._wanted(number, row)
        in_sync = row.in_sync
        if len(wanted) < len(self._target.rows[number]):
            return row
        if row.awaits is not None or not wanted or not set(wanted) <= set(in_sync):
            return row
        kept = list(row.replicas)
        # A copy that nobody asked to go stays while there are fewer than R: the target may be short of nodes for now.
        for node in [node for node in row.replicas if node not in wanted]:
            if node in self._draining or len(kept) >= self._settings.replicas:
                kept.remove(node)
        if len(kept) == len(row.replicas) or row.primary not in wanted:
            return row
        self.reasons["surplus copies removed"] += len(row.replicas) - len(kept)
        return Partition(row.primary, tuple(kept), row.filling, row.term, None)

    # -- handing over

    def _reverse_handovers(self) -> None:
        """Reverse hand-overs between two nodes that are cut off from each other.

        The predecessor may be waiting for the successor to acknowledge a write, and would never release. The successor
        can release at once if it has not begun to serve; if it has, it is the one to wait for.
        """
        for number in self._unsettled:
            row = self._rows[number]
            before, primary = row.awaits, row.primary
            if before is None or primary is None or row != self._seen.view.table[number]:
                continue
            status = self._verdicts.status(before)
            if (
                before in row.replicas
                and self._verdicts.is_live(before)
                and self._verdicts.is_live(primary)
                and self._verdicts.cut_off_for_s(before, primary) >= CUT_OFF_S
                and status is not None
                and status.epoch >= row.term
                and (number, row.term) not in status.released
            ):
                self.reasons[f"handed back to {before}"] += 1
                self._rows[number] = self._handed_to(before, row, primary)

    def _handed_to(self, successor: str, row: Partition, primary: str) -> Partition:
        replicas = (*(node for node in row.replicas if node != successor), primary)
        filling = tuple(Filling(item.node, self._epoch) for item in row.filling)
        return Partition(successor, replicas, filling, self._epoch, primary)

    def _hand_over(self) -> None:
        room = self._settings.max_handovers - sum(1 for row in self._rows if row.awaits is not None)
        for number in self._unsettled:
            row = self._rows[number]
            if room <= 0:
                return
            successor = self._successor(number, row)
            if successor is None or row.primary is None:
                continue
            room -= 1
            self.reasons[f"handed over to {successor}"] += 1
            self._rows[number] = self._handed_to(successor, row, row.primary)

    def _successor(self, number: int, row: Partition) -> str | None:
        """The node that should become primary now, if any."""
        wanted, primary = self._target.rows[number], row.primary
        if not wanted or primary is None or primary == wanted[0] or row.awaits is not None:
            return None
        # One step per row and view: a copy must have been published as in sync before it can become primary, so that
        # the view after one that lists it as filling never promotes it.
        if row != self._seen.view.table[number]:
            return None
        draining = primary in self._draining
        if not draining and (not self._may_balance or row.filling):
            return None
        if not self._serves(number, row, primary):
            return None
        # A draining node hands over to any copy of the target; for balance only the planned primary takes over.
        for node in wanted if draining else wanted[:1]:
            if (
                node in row.replicas
                and self._verdicts.is_live(node)
                and not self._verdicts.cut_off_for_s(primary, node)
            ):
                return node
        return None

    def _serves(self, number: int, row: Partition, primary: str) -> bool:
        status = self._verdicts.status(primary) if self._verdicts.is_live(primary) else None
        return status is not None and status.epoch >= row.term and number not in status.awaiting

    # -- filling

    def _fill(self) -> None:
        busy = Counter(
            filling.node for number in self._unsettled for filling in self._rows[number].filling
        )
        room = self._settings.max_fills - busy.total()
        if room <= 0:
            return
        due = sorted(
            (urgency, -len(missing), number, missing)
            for number in self._unsettled
            for missing in [self._missing(number)]
            if missing
            for urgency in [self._urgency(number)]
            if urgency is not _Urgency.BALANCE or self._may_balance
        )
        for _, _, number, missing in due:
            for node in missing:
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

    def _missing(self, number: int) -> list[str]:
        """Nodes that should hold a copy, can be filled, and are not being filled yet."""
        row = self._rows[number]
        if row.primary not in self._live:
            return []
        in_sync = row.in_sync
        return [
            node
            for node in self._wanted(number, row)
            if node not in in_sync and node in self._live and row.session_of(node) is None
        ]

    def _urgency(self, number: int) -> _Urgency:
        row = self._rows[number]
        goal = min(self._settings.replicas, len(self._target.rows[number]))
        if len(row.in_sync) + len(row.filling) < goal:
            return _Urgency.REPAIR
        if not self._draining.isdisjoint(row.in_sync):
            return _Urgency.DRAIN
        return _Urgency.BALANCE
