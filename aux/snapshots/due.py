"""Which partitions must be written: those that changed, that came from another node, that were asked for, or that hold up
the removal of an old bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aux.node.node import Node
from aux.replication.primary import Primary
from aux.snapshots.bundle_writer import Written
from aux.snapshots.requests import Request, Requests
from aux.snapshots.restore import Restorer
from aux.snapshots.schedule import Schedule
from aux.storage.policy import LOADED_TICKS
from ringmaster.snapshot.format import SectionId
from ringmaster.snapshot.names import BundleName

EARLY_S: Final = 1.0
"""What was taken over from other nodes is written this often at most, so that a rebalance does not make many files."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A section that this node published. `size` in bytes; `created_ms` is cluster time."""

    section_id: SectionId
    name: BundleName
    size: int
    entries: int
    created_ms: int
    sealed: bool


class DuePartitions:
    """The partitions of one incarnation that wait to be written, `numbers`, and why.

    `saved`: the newest section that was published of each. `in_round`: a round, or a request, is under way. `rewrite`:
    partitions that the next round writes although they did not change.
    """

    def __init__(self, node: Node, restorer: Restorer, schedule: Schedule) -> None:
        self.numbers: dict[int, None] = {}
        self.saved: dict[int, Saved] = {}
        self.requests = Requests()
        self.in_round = False
        self.rewrite: set[int] = set()
        self._node = node
        self._restorer = restorer
        self._schedule = schedule
        self._used: dict[int, int] = {}
        self._cuts = 0
        self._early_at = node.clock.boottime()

    def primaries(self) -> list[tuple[int, Primary]]:
        """Partitions that are this node's to write: one being restored has nothing that is not in its snapshot."""
        roles = self._node.roles
        return [
            (number, primary)
            for number, primary in roles.primaries.items()
            if not primary.restoring and (primary.serving or roles.sealed)
        ]

    # What becomes due.

    def find(self) -> None:
        """Note what changed, if a round is due, and what came with another node's data."""
        schedule = self._schedule
        if schedule.is_due(self._node.store.bytes):
            due = {
                n: each for n, each in self.primaries() if n in self.rewrite or self._is_dirty(each)
            }
            size = sum(primary.data.bytes for primary in due.values())
            if schedule.is_due(size):
                schedule.begin(size)
                self.numbers |= dict.fromkeys(due)
                self.in_round = True
                self.rewrite = set()
        now = self._node.clock.boottime()
        interval_s = schedule.interval_s
        if interval_s and now - self._early_at >= min(EARLY_S, interval_s / 4):
            self._early_at = now
            self.numbers |= {n: None for n, each in self.primaries() if self._is_inherited(each)}

    def find_unsealed(self) -> bool:
        """Note all that changed or was used since it was written; whether there is any."""
        for number, primary in self.primaries():
            if self._is_dirty(primary) or self._was_used(primary):
                self.numbers[number] = None
        return bool(self.numbers)

    def request(self, request_id: str) -> Request:
        """Everything that is not on disk now is due. The same id again is the same request."""
        known = self.requests.find(request_id)
        if known is not None:
            return known
        waiting = {number for number, primary in self.primaries() if self._is_dirty(primary)}
        self.numbers |= dict.fromkeys(waiting)
        self.in_round = True
        return self.requests.add(request_id, waiting, self._cuts)

    def _is_dirty(self, primary: Primary) -> bool:
        """Whether a restore would bring anything but what is there now."""
        saved = self.saved.get(primary.number)
        if saved is not None:
            return saved.section_id.version != (primary.term, primary.committed)
        return bool(primary.committed) or not self._restorer.is_as_stored(primary)

    def _is_inherited(self, primary: Primary) -> bool:
        """Whether another node wrote its data down last, if any did."""
        saved = self.saved.get(primary.number)
        return (
            bool(primary.data.entries)
            and (saved is None or saved.section_id.term != primary.term)
            and not self._restorer.is_as_stored(primary)
        )

    def _was_used(self, primary: Primary) -> bool:
        used = self._node.store.last_used(primary.data)
        known = self._used.get(primary.number)
        return used >= LOADED_TICKS if known is None else used != known

    # What is done.

    def begin_cut(self, primary: Primary) -> int:
        """`primary` is cut in this turn of the loop; the number of the cut."""
        self._used[primary.number] = self._node.store.last_used(primary.data)
        self._cuts += 1
        return self._cuts

    def written(self, written: Written) -> None:
        """A cut is durable."""
        cut, name, section = written
        number = section.id.partition
        self.saved[number] = Saved(
            section.id, name, section.size, cut.entries, cut.created_ms, cut.sealed
        )
        self._restorer.loaded_from.pop(number, None)
        self.settled(number, cut.number)

    def settled(self, number: int, cut: int | None = None) -> None:
        """The partition is written as of its `cut`, or (None) no longer ours to write."""
        self.numbers.pop(number, None)
        if self.requests.settled(number, cut):
            self.numbers[number] = None  # asked for while an earlier cut was on its way
