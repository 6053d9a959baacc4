"""Balancing under bounds: mend a table of copies with as few moves as the bounds allow. Pure; used by `placement.py`.

Both halves are flow problems (copies to nodes, primaries to copies), solved by shortest augmenting paths: a load too
many travels from a full node to one with room, along nodes that pass one on each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ringmaster.shares import Limits


class Balance:
    """A table in the making: `rows[partition]` lists its copies, the primary first.

    `affinity(node, partition)`: which partitions a node should rather take (smallest first); makes choices stable.
    """

    def __init__(self, limits: Limits, affinity: Callable[[str, int], int]) -> None:
        self.rows: list[list[str]] = []
        self._limits = limits
        self._affinity = affinity
        self._held = dict.fromkeys(limits.held, 0)
        self._primaries = dict.fromkeys(limits.held, 0)
        self._current: list[frozenset[str]] = []

    # -- single copies

    def has_room(self, node: str) -> bool:
        """Whether `node` may hold one more copy."""
        return self._held[node] < self._limits.held[node].high

    def has_room_for_primary(self, node: str) -> bool:
        """Whether `node` may hold one more copy and be primary of it."""
        return self.has_room(node) and self._primaries[node] < self._limits.primaries[node].high

    def may_add(self, partition: int, node: str, instead_of: str | None = None) -> bool:
        """Whether `node` may get a copy (in the place of another's) by the rules on nodes and zones; room aside."""
        row = self.rows[partition]
        if node in row:
            return False
        zones = self._limits.zones
        zone = zones[node]
        return (
            sum(1 for other in row if other != instead_of and zones[other] == zone)
            < self._limits.per_zone
        )

    def add(self, partition: int, node: str) -> None:
        """Append a copy; the first in a row is the primary."""
        row = self.rows[partition]
        row.append(node)
        self._held[node] += 1
        if len(row) == 1:
            self._primaries[node] += 1

    def _remove(self, partition: int, node: str) -> None:
        row = self.rows[partition]
        if row[0] == node:
            self._primaries[node] -= 1
            if len(row) > 1:
                self._primaries[row[1]] += 1
        row.remove(node)
        self._held[node] -= 1

    def _replace(self, partition: int, old: str, new: str) -> None:
        row = self.rows[partition]
        if row[0] == old:
            self._primaries[old] -= 1
            self._primaries[new] += 1
        row[row.index(old)] = new
        self._held[old] -= 1
        self._held[new] += 1

    def _fullness(self, node: str) -> float:
        return self._held[node] / self._limits.held[node].share

    # -- starting from a current table

    def adopt(self, current: Sequence[Sequence[str]]) -> None:
        """Take over `current`, without nodes that are gone and copies that are too many for a zone or in all."""
        for partition, row in enumerate(current):
            self.rows.append([])
            for node in dict.fromkeys(row):
                if node in self._held:
                    self.add(partition, node)
        self._current = [frozenset(row) for row in self.rows]
        for partition in range(len(self.rows)):
            self._trim(partition)

    def _trim(self, partition: int) -> None:
        row, limits = self.rows[partition], self._limits
        while True:
            by_zone: dict[str, list[str]] = {}
            for node in row:
                by_zone.setdefault(limits.zones[node], []).append(node)
            crowd = next((ids for ids in by_zone.values() if len(ids) > limits.per_zone), None)
            if crowd is None and len(row) <= limits.copies:
                return
            # Of equally full ones the first (the primary) stays.
            among = crowd or row
            self._remove(
                partition, max(among, key=lambda node: (self._fullness(node), row.index(node)))
            )

    def fill_holes(self, order: Callable[[int], Iterable[str]]) -> None:
        """Give missing copies to nodes below their share first, in the partition's hash order."""
        held = self._limits.held
        for partition, row in enumerate(self.rows):
            if len(row) == self._limits.copies:
                continue
            walk = list(order(partition))
            for allowed in (lambda node: self._held[node] + 1 <= held[node].share, self.has_room):
                for node in walk:
                    if (
                        len(row) < self._limits.copies
                        and allowed(node)
                        and self.may_add(partition, node)
                    ):
                        self.add(partition, node)

    # -- copies

    def level_copies(self) -> None:
        """Every partition gets all its copies, no node holds more than `high`; then, if moves allow, none below `low`."""
        bounds = self._limits.held
        nodes = sorted(self._held, key=self._fullness)
        for node in nodes:
            if any(held > bounds[other].high for other, held in self._held.items()):
                self._pull(
                    node, lambda _, donor: self._held[donor] > bounds[donor].high, bounds[node].high
                )
        self._force_holes()
        for node in self._held:
            while self._held[node] > bounds[node].high and self._pass_on(node):
                pass
        for node in nodes:
            self._pull(node, self._gives_new_copy, bounds[node].low)
            self._pull(
                node, lambda _, donor: self._held[donor] > bounds[donor].share, bounds[node].low
            )

    def _gives_new_copy(self, partition: int, donor: str) -> bool:
        """Passing on a copy that `donor` does not have yet costs no move."""
        new = bool(self._current) and donor not in self._current[partition]
        return new and self._held[donor] > self._limits.held[donor].low

    def _pull(self, node: str, gives: Callable[[int, str], bool], upto: int) -> None:
        """Move copies from donors to `node` until it holds `upto`, the partitions it has most affinity to first."""
        if self._held[node] >= upto:
            return
        wanted = [
            partition
            for partition, row in enumerate(self.rows)
            if any(
                gives(partition, donor) and self.may_add(partition, node, donor) for donor in row
            )
        ]
        for partition in sorted(wanted, key=lambda partition: self._affinity(node, partition)):
            if self._held[node] >= upto:
                return
            donors = [
                donor
                for donor in self.rows[partition]
                if gives(partition, donor) and self.may_add(partition, node, donor)
            ]
            if donors:
                self._replace(partition, max(donors, key=self._fullness), node)

    def _force_holes(self) -> None:
        for partition, row in enumerate(self.rows):
            while len(row) < self._limits.copies:
                allowed = [node for node in self._held if self.may_add(partition, node)]
                if not allowed:
                    break  # the zones' sizes rule it out for this row only: a copy less
                node = next((node for node in allowed if self.has_room(node)), None)
                if node is None:
                    node = next(
                        (node for node in allowed if self._pass_on(node, but=partition)), allowed[0]
                    )
                self.add(partition, node)

    def _pass_on(self, start: str, but: int = -1) -> bool:
        """Take one copy off `start` by a shortest chain of moves that ends at a node with room. Not through `but`."""
        came: dict[str, tuple[str, int]] = {}
        frontier = [start]
        while frontier:
            reached: list[str] = []
            for node in frontier:
                used = self._trail(came, start, node) | {but}
                for partition, row in enumerate(self.rows):
                    if node not in row or partition in used:
                        continue
                    for other in self._held:
                        if (
                            other != start
                            and other not in came
                            and self.may_add(partition, other, node)
                        ):
                            came[other] = (node, partition)
                            if self.has_room(other):
                                self._shift(came, start, other)
                                return True
                            reached.append(other)
            frontier = reached
        return False

    @staticmethod
    def _trail(came: Mapping[str, tuple[str, int]], start: str, node: str) -> set[int]:
        used = set()
        while node != start:
            node, partition = came[node]
            used.add(partition)
        return used

    def _shift(self, came: Mapping[str, tuple[str, int]], start: str, node: str) -> None:
        while node != start:
            before, partition = came[node]
            self._replace(partition, before, node)
            node = before

    # -- primaries

    def level_primaries(self) -> None:
        """No node is primary more often than `high`, then none less often than `low`; copies move only if they must."""
        bounds = self._limits.primaries
        for node in self._held:
            while self._primaries[node] > bounds[node].high:
                if not self._hand_on(
                    node, lambda other: self._primaries[other] < bounds[other].high
                ) and not (self._exchange(node)):
                    break
        for node in self._held:
            while self._primaries[node] < bounds[node].low:
                donors = [
                    other for other in self._held if self._primaries[other] > bounds[other].share
                ]
                donors.sort(key=lambda other: bounds[other].share - self._primaries[other])
                if not any(self._hand_on(donor, node.__eq__) for donor in donors):
                    break

    def _hand_on(self, start: str, ends: Callable[[str], bool]) -> bool:
        """Make `start` primary once less and a node that `ends` accepts once more, by role changes alone."""
        edges: dict[str, dict[str, int]] = {}
        for partition, row in enumerate(self.rows):
            if row:
                ways = edges.setdefault(row[0], {})
                for other in row[1:]:
                    if other not in ways or self._affinity(other, partition) < self._affinity(
                        other, ways[other]
                    ):
                        ways[other] = partition
        came: dict[str, tuple[str, int]] = {}
        frontier = [start]
        while frontier:
            reached = []
            for node in frontier:
                for other, partition in sorted(
                    edges.get(node, {}).items(), key=lambda way: (self._primaries[way[0]], way[0])
                ):
                    if other == start or other in came:
                        continue
                    came[other] = (node, partition)
                    if ends(other):
                        self._promote_along(came, start, other)
                        return True
                    reached.append(other)
            frontier = reached
        return False

    def _promote_along(self, came: Mapping[str, tuple[str, int]], start: str, node: str) -> None:
        while node != start:
            before, partition = came[node]
            row = self.rows[partition]
            row.remove(node)
            row.insert(0, node)
            self._primaries[before] -= 1
            self._primaries[node] += 1
            node = before

    def _exchange(self, full: str) -> bool:
        """Swap a copy of which `full` is primary for one of which a node with room for primaries is not."""
        bounds = self._limits.primaries
        for other in sorted(
            self._held, key=lambda node: self._primaries[node] - bounds[node].share
        ):
            if other == full or self._primaries[other] >= bounds[other].high:
                continue
            give = next(
                (
                    p
                    for p, row in enumerate(self.rows)
                    if row and row[0] == full and self.may_add(p, other, full)
                ),
                None,
            )
            take = next(
                (
                    p
                    for p, row in enumerate(self.rows)
                    if other in row[1:] and self.may_add(p, full, other)
                ),
                None,
            )
            if give is not None and take is not None:
                self._replace(give, full, other)
                self._replace(take, other, full)
                return True
        return False
