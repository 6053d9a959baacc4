"""Which copy of each partition is to be the primary: levelled by changes of role, seldom by a swap of copies. Pure.

Primaries to copies is a flow problem as well, solved like that of the copies (`min_cost_flow.py`): a primary too many travels
along nodes that hand one on each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ringmaster.placement.min_cost_flow import Balance
from ringmaster.placement.quotas import Bound


class Primaries:
    """Levels the primaries of `balance.rows` in place. `bounds` by node number."""

    def __init__(self, balance: Balance, bounds: Sequence[Bound]) -> None:
        self._balance = balance
        self._rows = balance.rows
        self._bounds = bounds
        self._nodes = range(len(bounds))
        self._led = [0] * len(bounds)
        # Partitions by primary and by who else has a copy.
        self._ways: list[list[dict[int, None]]] = [[{} for _ in bounds] for _ in bounds]
        for partition, row in enumerate(self._rows):
            if row:
                self._led[row[0]] += 1
                self._enter(partition)

    def level(self) -> None:
        """No node is primary more often than `high`, then none less often than `low`; copies move only if they must."""
        led, bounds = self._led, self._bounds
        for node in self._nodes:
            while led[node] > bounds[node].high:
                if not self._hand_on(
                    [node], lambda other: led[other] < bounds[other].high
                ) and not self._swap(node):
                    break
        for node in self._nodes:
            while led[node] < bounds[node].low:
                givers = [other for other in self._nodes if led[other] > bounds[other].share]
                givers.sort(key=lambda other: bounds[other].share - led[other])
                if not self._hand_on(givers, node.__eq__):
                    break

    def _enter(self, partition: int) -> None:
        row = self._rows[partition]
        ways = self._ways[row[0]]
        for other in row[1:]:
            ways[other][partition] = None

    def _leave(self, partition: int) -> None:
        row = self._rows[partition]
        ways = self._ways[row[0]]
        for other in row[1:]:
            del ways[other][partition]

    def _hand_on(self, givers: Sequence[int], ends: Callable[[int], bool]) -> bool:
        """Make one of `givers` primary once less and a node that `ends` accepts once more, by the fewest role changes."""
        came: dict[int, int] = dict.fromkeys(givers, -1)
        frontier = list(givers)
        while frontier:
            reached = []
            for node in frontier:
                for other in self._nodes:
                    if other not in came and self._ways[node][other]:
                        came[other] = node
                        reached.append(other)
            good = [other for other in reached if ends(other)]
            if good:
                best = min(good, key=lambda other: self._led[other] / self._bounds[other].share)
                self._promote_along(came, best)
                return True
            frontier = reached
        return False

    def _promote_along(self, came: dict[int, int], node: int) -> None:
        while (before := came[node]) >= 0:
            partition = next(iter(self._ways[before][node]))
            self._leave(partition)
            row = self._rows[partition]
            row.remove(node)
            row.insert(0, node)
            self._enter(partition)
            self._led[before] -= 1
            self._led[node] += 1
            node = before

    def _swap(self, full: int) -> bool:
        """Swap a copy of which `full` is primary for one of which a node with room for primaries is not."""
        bounds, led = self._bounds, self._led
        others = [other for other in self._nodes if led[other] < bounds[other].high]
        for other in sorted(others, key=lambda node: led[node] - bounds[node].share):
            give = self._cheapest(full, other, primary=True)
            take = self._cheapest(other, full, primary=False)
            if give is not None and take is not None:
                self._replace(give, full, other)
                self._replace(take, other, full)
                return True
        return False

    def _cheapest(self, giver: int, taker: int, *, primary: bool) -> int | None:
        """A partition of which `taker` may have the copy of `giver`, with as few moves as can be."""
        balance = self._balance
        candidates = [
            partition
            for partition, row in enumerate(self._rows)
            if giver in row
            and (row[0] == giver) is primary
            and balance.may_add(partition, taker, giver)
        ]

        def moves(partition: int) -> int:
            return balance.is_new(partition, taker) - balance.is_new(partition, giver)

        return min(candidates, key=moves, default=None)

    def _replace(self, partition: int, old: int, new: int) -> None:
        self._leave(partition)
        row = self._rows[partition]
        if row[0] == old:
            self._led[old] -= 1
            self._led[new] += 1
        row[row.index(old)] = new
        self._enter(partition)
