"""Bring a table of copies within the quotas of its nodes, with the fewest moves. Pure; used by `placement.py`.

Copies to nodes is a flow problem: each partition sends its copies through zones to nodes, a copy that is not there yet
costs one, a node takes between `low` and `high`. It is solved by successive shortest augmenting paths (Ahuja, Magnanti,
Orlin: "Network Flows", 1993, chapter 9): a surplus copy travels from a full node to one with room, along nodes that
each pass one on (`residual_graph.py`). `adopt` and `fill` leave the cheapest table without bounds, and each cheapest
path keeps it the cheapest for the loads reached, so the result has the fewest moves of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ringmaster.placement.quotas import Quotas
from ringmaster.placement.residual_graph import ResidualGraph


class MinCostFlow:
    """A table under construction: `rows[partition]` lists its copies, the primary first. Nodes are numbered by id."""

    def __init__(self, quotas: Quotas) -> None:
        self.rows: list[list[int]] = []
        self.copies = quotas.copies
        self.ids = tuple(quotas.zones)
        self.number = {node: number for number, node in enumerate(self.ids)}
        self.held = [0] * len(self.ids)
        names = sorted(set(quotas.zones.values()))
        self._per_zone = quotas.per_zone
        self._zones = [names.index(quotas.zones[node]) for node in self.ids]
        held = [quotas.held[node] for node in self.ids]
        self._low = [quota.low for quota in held]
        self._high = [quota.high for quota in held]
        self._share = [quota.share for quota in held]
        self._started: list[int] = []

    # -- single copies

    def has_room(self, node: int) -> bool:
        """Whether `node` may hold one more copy."""
        return self.held[node] < self._high[node]

    def may_add(self, partition: int, node: int, instead_of: int = -1) -> bool:
        """Whether `node` may get a copy, in the place of another's if given, as far as nodes and zones matter."""
        row = self.rows[partition]
        if node in row:
            return False
        zones = self._zones
        zone = zones[node]
        beside = 0
        for other in row:
            if zones[other] == zone and other != instead_of:
                beside += 1
        return beside < self._per_zone

    def add(self, partition: int, node: int) -> None:
        """Append a copy; the first in a row is the primary."""
        self.rows[partition].append(node)
        self.held[node] += 1

    def is_new(self, partition: int, node: int) -> bool:
        """Whether a copy on `node` is a move."""
        return not self._started[partition] >> node & 1

    def _fullness(self, node: int) -> float:
        return self.held[node] / self._share[node]

    # -- starting from a current table, or from none

    def adopt(self, current: Sequence[Sequence[str]]) -> None:
        """Start from `current`, without nodes that are gone and copies beyond what a zone or a partition may have."""
        known: dict[tuple[str, ...], tuple[list[int], int, bool]] = {}
        odd = []
        for partition, ids in enumerate(map(tuple, current)):
            found = known.get(ids)
            if found is None:
                row = [self.number[node] for node in dict.fromkeys(ids) if node in self.number]
                found = known[ids] = (row, sum(1 << node for node in row), self._is_crowded(row))
            row, bits, crowded = found
            self.rows.append(row.copy())
            self._started.append(bits)
            if crowded:
                odd.append(partition)
        for ids, count in Counter(map(tuple, current)).items():
            for node in known[ids][0]:
                self.held[node] += count
        for partition in odd:
            self._trim(self.rows[partition])

    def _crowd(self, row: Sequence[int]) -> Sequence[int]:
        """Copies of which one is surplus: those of a zone with too many, else all if there are too many."""
        in_zone = Counter(self._zones[node] for node in row)
        for zone, count in in_zone.items():
            if count > self._per_zone:
                return [node for node in row if self._zones[node] == zone]
        return row if len(row) > self.copies else ()

    def _is_crowded(self, row: Sequence[int]) -> bool:
        return bool(self._crowd(row))

    def _trim(self, row: list[int]) -> None:
        while crowd := self._crowd(row):
            # Of equally full nodes the first (the primary) keeps its copy.
            node = max(crowd, key=lambda node: (self._fullness(node), row.index(node)))
            row.remove(node)
            self.held[node] -= 1

    def begin(
        self, partitions: int, order: Callable[[int], Iterable[int]], most: Sequence[int]
    ) -> None:
        """An empty table, filled in hash order: the first node with room for a primary, then for copies.

        `most`: how many primaries each node may have. Without a table before, no copy is a move.
        """
        primaries = [0] * len(self.ids)
        everywhere = (1 << len(self.ids)) - 1
        for partition in range(partitions):
            self.rows.append([])
            self._started.append(everywhere)
            walk = list(order(partition))
            for node in walk:
                if primaries[node] < most[node] and self.held[node] < self._high[node]:
                    primaries[node] += 1
                    self.add(partition, node)
                    break
            self._fill_row(partition, walk, self.has_room)

    def fill(self, order: Callable[[int], Iterable[int]]) -> None:
        """Give missing copies to nodes below their share first, in the partition's hash order; bounds may be passed."""
        for partition, row in enumerate(self.rows):
            if len(row) < self.copies:
                walk = list(order(partition))
                self._fill_row(
                    partition, walk, lambda node: self.held[node] + 1 <= self._share[node]
                )
                self._fill_row(partition, walk, self.has_room)
                self._fill_row(partition, sorted(walk, key=self._fullness), lambda _: True)

    def _fill_row(
        self, partition: int, walk: Iterable[int], allowed: Callable[[int], bool]
    ) -> None:
        row = self.rows[partition]
        for node in walk:
            if len(row) == self.copies:
                return
            if allowed(node) and self.may_add(partition, node):
                self.add(partition, node)

    # -- within the bounds

    def level(self) -> None:
        """No node holds more than `high`, then none less than `low`."""
        held, low, high = self.held, self._low, self._high
        nodes = range(len(self.ids))
        is_over = any(held[node] > high[node] for node in nodes)
        if not is_over and all(held[node] >= low[node] for node in nodes):
            return
        graph = ResidualGraph(self.rows, self._started, self._zones, self._per_zone)
        if is_over:
            self._even_out(
                graph, graph.least, lambda n: held[n] > high[n], lambda n: held[n] < high[n]
            )
        # Copies that were just passed on can go further without another move.
        least = 0 if is_over else graph.least
        self._even_out(graph, least, lambda n: held[n] > low[n], lambda n: held[n] < low[n])

    def _even_out(
        self,
        graph: ResidualGraph,
        least: int,
        gives: Callable[[int], bool],
        takes: Callable[[int], bool],
    ) -> None:
        """Pass copies on from givers to takers, the fullest first, until there are none of one kind."""
        moves: int | None = least
        for _ in range(sum(self.held)):  # more rounds than can be needed
            givers = [node for node in range(len(self.ids)) if gives(node)]
            takers = [node for node in range(len(self.ids)) if takes(node)]
            if not givers or not takers or moves is None:
                return
            givers.sort(key=self._fullness, reverse=True)
            takers.sort(key=self._fullness)
            moves = self._pass_on(graph, givers, takers, moves)

    def _pass_on(
        self, graph: ResidualGraph, givers: Sequence[int], takers: Sequence[int], moves: int
    ) -> int | None:
        """Pass one copy from a giver to a taker along the cheapest path. Its cost; None if there is no path.

        `moves`: the cost of the last one. Costs never fall, so a direct arc at that cost needs no search: a short way that
        `tests/unit/ringmaster/placement/test_placement_moves.py` holds to the fewest moves of all.
        """
        for giver in givers:
            for taker in takers:
                cost = graph.cost(giver, taker)
                if cost is not None and cost <= moves:
                    graph.pass_on(giver, taker)
                    self.held[giver] -= 1
                    self.held[taker] += 1
                    return moves
        found = graph.shortest(givers, takers)
        if found is None:
            return None
        moves, chain = found
        for giver, taker in zip(chain[-2::-1], chain[:0:-1], strict=True):
            if not graph.pass_on(giver, taker):
                break
            self.held[giver] -= 1
            self.held[taker] += 1
        return moves
