"""Who could pass a copy on to whom, and what it costs: the residual graph of a table of copies, between nodes. Pure.

Partitions that are alike (the same copies now, the same at the start) are interchangeable, so they are kept as one
group: what is held here grows with the number of different rows, not of partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

FREE = 1
"""Index of the way that costs nothing; the one before it gains a move, the one after it costs one."""

_HOP = 1
_MOVE = 4096  # more than any path has hops

Way = tuple[dict[int, list[int]], dict[int, list[int]], dict[int, list[int]]]


class Ways:
    """Of `rows` (lists of node numbers), which it changes: `pass_on` puts one node in the place of another.

    `started[partition]` is the set of nodes, as bits, whose copies are there already: a copy on any other is a move.
    `zones[node]` is its zone, which may have `per_zone` copies of a partition.
    """

    def __init__(
        self, rows: list[list[int]], started: Sequence[int], zones: Sequence[int], per_zone: int
    ) -> None:
        self._rows = rows
        self._started = started
        self._zones = zones
        self._per_zone = per_zone
        self._count = len(zones)
        self._ways: list[list[Way]] = [[({}, {}, {}) for _ in zones] for _ in zones]
        self._groups: dict[int, list[int]] = {}
        # Ways to a node are found when first asked for: with many nodes most never are.
        self._takers: list[int] = []
        for partition in range(len(rows)):
            self._enter(partition)
        self.least = 0
        """No copy goes anywhere for fewer moves than this, at the start."""
        if all(key >> self._count == key & ((1 << self._count) - 1) for key in self._groups):
            self.least = 1

    def cost(self, giver: int, taker: int) -> int | None:
        """Moves added by passing one copy on: -1, 0 or 1; None if there is no copy that may go that way."""
        if taker not in self._takers:
            self._reach(taker)
        less, same, more = self._ways[giver][taker]
        return -1 if less else 0 if same else 1 if more else None

    def pass_on(self, giver: int, taker: int) -> bool:
        """Pass on the cheapest copy; among those one of the most frequent kind, so that pairs of nodes stay mixed."""
        less, same, more = self._ways[giver][taker]
        groups = less or same or more
        if not groups:
            return False
        partition = max(groups.values(), key=len)[-1]
        self._leave(partition)
        row = self._rows[partition]
        row[row.index(giver)] = taker
        self._enter(partition)
        return True

    def shortest(
        self, givers: Sequence[int], takers: Sequence[int]
    ) -> tuple[int, list[int]] | None:
        """The cheapest chain from one of `givers` to one of `takers`, of those the shortest: (moves added, nodes).

        Bellman and Ford's; there are no cycles that gain moves. The earlier of equals is taken.
        """
        for node in range(self._count):
            if node not in self._takers:
                self._reach(node)
        found: dict[int, int] = dict.fromkeys(givers, 0)
        came: dict[int, int] = {}
        frontier = list(givers)
        while frontier:
            reached: dict[int, None] = {}
            for giver in frontier:
                before = found[giver]
                for taker, (less, same, more) in enumerate(self._ways[giver]):
                    if more or same or less:
                        moves = -_MOVE if less else 0 if same else _MOVE
                        cost = before + moves + _HOP
                        if taker not in found or cost < found[taker]:
                            found[taker] = cost
                            came[taker] = giver
                            reached[taker] = None
            frontier = list(reached)
        ends = [taker for taker in takers if taker in came]
        if not ends:
            return None
        chain = [min(ends, key=found.__getitem__)]
        moves = found[chain[0]] // _MOVE
        while chain[-1] in came:
            chain.append(came[chain[-1]])
        return moves, chain[::-1]

    def _reach(self, taker: int) -> None:
        self._takers.append(taker)
        for key, group in self._groups.items():
            for way in self._ways_of(group[-1], (taker,)):
                way[key] = group

    def _key(self, partition: int) -> int:
        now = 0
        for node in self._rows[partition]:
            now |= 1 << node
        return (self._started[partition] << self._count) | now

    def _enter(self, partition: int) -> None:
        key = self._key(partition)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = []
            for way in self._ways_of(partition, self._takers):
                way[key] = group
        group.append(partition)

    def _leave(self, partition: int) -> None:
        """The last of its group."""
        key = self._key(partition)
        group = self._groups[key]
        group.pop()
        if not group:
            del self._groups[key]
            for way in self._ways_of(partition, self._takers):
                del way[key]

    def _ways_of(self, partition: int, takers: Sequence[int]) -> list[dict[int, list[int]]]:
        row, zones, started = self._rows[partition], self._zones, self._started[partition]
        in_zone = [zones[node] for node in row]
        full = {zone for zone in in_zone if in_zone.count(zone) >= self._per_zone}
        found = []
        for taker in takers:
            if taker in row:
                continue
            zone = zones[taker]
            is_new = FREE + (not started >> taker & 1)
            for giver in row:
                if zone not in full or zones[giver] == zone:
                    was_new = not started >> giver & 1
                    found.append(self._ways[giver][taker][is_new - was_new])
        return found
