"""/cluster/partitions: who holds each partition, for those who draw it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from ringmaster.cluster.view import View


class PartitionsApi:
    """`view()` is the current view. Its map is put together once, however many ask."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view
        self._last: tuple[View, bytes] | None = None

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster/partitions`."""
        exchange.parameters()
        view = self._view()
        if self._last is None or self._last[0] is not view:
            self._last = (view, msgspec.json.encode(map_of(view)))
        return Reply.build(200, JSON_HEADERS, self._last[1])


def map_of(view: View) -> dict[str, object]:
    """`holders`, by partition: [primary, [replicas], [being filled]], as places in `nodes`; -1: nobody is primary."""
    names = sorted(view.nodes.keys() | view.holders())
    place = {name: number for number, name in enumerate(names)}
    return {
        "epoch": view.epoch,
        "nodes": names,
        "holders": [
            [
                -1 if row.primary is None else place[row.primary],
                [place[node] for node in row.replicas],
                [place[each.node] for each in row.filling],
            ]
            for row in view.table
        ],
    }
