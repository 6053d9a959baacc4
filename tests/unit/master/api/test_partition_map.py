"""`GET /cluster/partitions`: who holds each partition."""

from __future__ import annotations

import msgspec

from master.api.partition_map import map_of
from ringmaster.cluster.view import Filling, Partition
from tests.fakes.master import healthy_view


def test_holders_are_places_among_the_nodes() -> None:
    table = (
        Partition("aux2", ("aux1",), (Filling("aux3", 9),), 7),
        Partition(None, (), (), 7),
    )
    view = msgspec.structs.replace(healthy_view(), table=table)
    assert map_of(view) == {
        "epoch": view.epoch,
        # A node that is forgotten may still be listed by a row.
        "nodes": ["aux1", "aux2", "aux3"],
        "holders": [[1, [0], [2]], [-1, [], []]],
    }
