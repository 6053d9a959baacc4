"""The residual graph of a table of copies: which node can pass a copy on to which, and at what cost. Pure.

Partitions with the same copies now and at the start are interchangeable, so they are kept as one group: the size of
the graph grows with the number of different rows, not of partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

FREE = 1
"""Index in `Arcs` of the copies that cost no move; those before it save a move, those after it cost one."""

_HOP = 1
_MOVE = 4096  # more than any path has hops

Arcs = tuple[dict[int, list[int]], dict[int, list[int]], dict[int, list[int]]]
"""From one node to another: the groups of partitions whose copy can be passed on, by what that costs."""


class ResidualGraph:
    """The graph of `rows` (lists of node numbers), which `pass_on` changes.

    `started[partition]`: the nodes, as bits, that had a copy at the start; a copy on any other node is a move.
    `zones[node]`: its zone, which may hold `per_zone` copies of a partition.
    """

    def __init__(
        self, rows: list[list[int]], started: Sequence[int], zones: Sequence[int], per_zone: int
    ) -> None:
        self._rows = rows
        self._started = started
        self._zones = zones
        self._per_zone = per_zone
        self._count = len(zones)
        self._arcs: list[list[Arcs]] = [[({}, {}, {}) for _ in zones] for _ in zones]
        self._groups: dict[int, list[int]] = {}
        # Arcs to a node are built when first needed: with many nodes most never are.
        self._reached: list[int] = []
        for partition in range(len(rows)):
            self._enter(partition)
        self.least = 0
        """At the start no copy can be passed on for fewer moves than this."""
        if all(key >> self._count == key & ((1 << self._count) - 1) for key in self._groups):
            self.least = 1

    def cost(self, giver: int, taker: int) -> int | None:
        """Moves added by passing one copy on: -1, 0 or 1; None if no copy can go from `giver` to `taker`."""
        if taker not in self._reached:
            self._enter_taker(taker)
        less, same, more = self._arcs[giver][taker]
        return -1 if less else 0 if same else 1 if more else None

    def pass_on(self, giver: int, taker: int) -> bool:
        """Pass on the cheapest copy, of the largest group among those, so that pairs of nodes stay mixed; whether there was one."""
        less, same, more = self._arcs[giver][taker]
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

        By the Bellman-Ford algorithm; there are no negative cycles. The earlier of equals is taken.
        """
        for node in range(self._count):
            if node not in self._reached:
                self._enter_taker(node)
        found: dict[int, int] = dict.fromkeys(givers, 0)
        came: dict[int, int] = {}
        frontier = list(givers)
        while frontier:
            reached: dict[int, None] = {}
            for giver in frontier:
                before = found[giver]
                for taker, (less, same, more) in enumerate(self._arcs[giver]):
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

    def _enter_taker(self, taker: int) -> None:
        """Build the arcs that end at `taker`."""
        self._reached.append(taker)
        for key, group in self._groups.items():
            for arc in self._arcs_of(group[-1], (taker,)):
                arc[key] = group

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
            for arc in self._arcs_of(partition, self._reached):
                arc[key] = group
        group.append(partition)

    def _leave(self, partition: int) -> None:
        """Take out `partition`, the last of its group."""
        key = self._key(partition)
        group = self._groups[key]
        group.pop()
        if not group:
            del self._groups[key]
            for arc in self._arcs_of(partition, self._reached):
                del arc[key]

    def _arcs_of(self, partition: int, takers: Sequence[int]) -> list[dict[int, list[int]]]:
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
                    found.append(self._arcs[giver][taker][is_new - was_new])
        return found
