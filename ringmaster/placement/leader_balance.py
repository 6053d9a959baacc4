"""Balance the primaries by changes of role, rarely by a swap of copies. Pure.

Like the balance of copies this is a flow problem (`min_cost_flow.py`): a surplus primary travels along nodes that each
hand one on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ringmaster.placement.min_cost_flow import MinCostFlow
from ringmaster.placement.quotas import Quota


class LeaderBalance:
    """Balances the primaries of `flow.rows` in place. `quotas` by node number."""

    def __init__(self, flow: MinCostFlow, quotas: Sequence[Quota]) -> None:
        self._flow = flow
        self._rows = flow.rows
        self._quotas = quotas
        self._nodes = range(len(quotas))
        self._led = [0] * len(quotas)
        # Partitions by primary and by another node that has a copy.
        self._shared: list[list[dict[int, None]]] = [[{} for _ in quotas] for _ in quotas]
        for partition, row in enumerate(self._rows):
            if row:
                self._led[row[0]] += 1
                self._enter(partition)

    def level(self) -> None:
        """Bring every node's primaries down to `high`, then up to `low`; copies move only if they must."""
        led, quotas = self._led, self._quotas
        for node in self._nodes:
            while led[node] > quotas[node].high:
                if not self._hand_on(
                    [node], lambda other: led[other] < quotas[other].high
                ) and not self._swap(node):
                    break
        for node in self._nodes:
            while led[node] < quotas[node].low:
                givers = [other for other in self._nodes if led[other] > quotas[other].share]
                givers.sort(key=lambda other: quotas[other].share - led[other])
                if not self._hand_on(givers, node.__eq__):
                    break

    def _enter(self, partition: int) -> None:
        row = self._rows[partition]
        shared = self._shared[row[0]]
        for other in row[1:]:
            shared[other][partition] = None

    def _leave(self, partition: int) -> None:
        row = self._rows[partition]
        shared = self._shared[row[0]]
        for other in row[1:]:
            del shared[other][partition]

    def _hand_on(self, givers: Sequence[int], ends: Callable[[int], bool]) -> bool:
        """Take a primary from one of `givers` and give one to a node that `ends` accepts, by the fewest role changes."""
        came: dict[int, int] = dict.fromkeys(givers, -1)
        frontier = list(givers)
        while frontier:
            reached = []
            for node in frontier:
                for other in self._nodes:
                    if other not in came and self._shared[node][other]:
                        came[other] = node
                        reached.append(other)
            good = [other for other in reached if ends(other)]
            if good:
                best = min(good, key=lambda other: self._led[other] / self._quotas[other].share)
                self._promote_along(came, best)
                return True
            frontier = reached
        return False

    def _promote_along(self, came: dict[int, int], node: int) -> None:
        while (before := came[node]) >= 0:
            partition = next(iter(self._shared[before][node]))
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
        quotas, led = self._quotas, self._led
        others = [other for other in self._nodes if led[other] < quotas[other].high]
        for other in sorted(others, key=lambda node: led[node] - quotas[node].share):
            give = self._cheapest(full, other, primary=True)
            take = self._cheapest(other, full, primary=False)
            if give is not None and take is not None:
                self._replace(give, full, other)
                self._replace(take, other, full)
                return True
        return False

    def _cheapest(self, giver: int, taker: int, *, primary: bool) -> int | None:
        """The partition whose copy can go from `giver` to `taker` for the fewest moves."""
        flow = self._flow
        candidates = [
            partition
            for partition, row in enumerate(self._rows)
            if giver in row
            and (row[0] == giver) is primary
            and flow.may_add(partition, taker, giver)
        ]

        def moves(partition: int) -> int:
            return flow.is_new(partition, taker) - flow.is_new(partition, giver)

        return min(candidates, key=moves, default=None)

    def _replace(self, partition: int, old: int, new: int) -> None:
        self._leave(partition)
        row = self._rows[partition]
        if row[0] == old:
            self._led[old] -= 1
            self._led[new] += 1
        row[row.index(old)] = new
        self._enter(partition)
