import asyncio
from typing import cast

import msgspec
import pytest

from master.api.cluster import ClusterApi
from master.api.cluster_watch import ClusterWatch
from master.api.drain import COPIES_PER_S, forecast_drain
from master.api.request import Exchange
from master.api.response import Reply
from master.http.problem import Problem
from ringmaster.cluster.view import Partition, View
from ringmaster.coordinator import Commit
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.fakes.coordinator import MemoryCoordinator
from tests.fakes.master import healthy_view, status_of


def three_nodes() -> View:
    """aux3 holds nothing, two copies are wanted."""
    view = healthy_view()
    third = msgspec.structs.replace(view.nodes["aux1"], id="aux3", incarnation="aux3aux3")
    return msgspec.structs.replace(view, nodes={**view.nodes, "aux3": third})


def test_it_says_what_moves_and_about_how_long() -> None:
    view = three_nodes()
    node = view.nodes["aux1"]
    status = msgspec.structs.replace(status_of(node), bytes=3000, fill_bytes_per_s=1000)
    found = forecast_drain(view, {"aux1": status}, node)
    assert (found.copies, found.bytes, found.stay) == (8, 3000, 2)
    assert found.seconds == round(3.0 + 8 / COPIES_PER_S, 1)
    assert (found.too_few_copies, found.lost) == (0, 0)


def test_nodes_that_go_as_well_do_not_count() -> None:
    view = three_nodes()
    node = view.nodes["aux1"]
    assert forecast_drain(view, {}, node, ["aux3"]).too_few_copies == 8
    for gone in ({"draining": True}, {"up": False}):
        third = msgspec.structs.replace(view.nodes["aux3"], **gone)
        without = msgspec.structs.replace(view, nodes={**view.nodes, "aux3": third})
        assert forecast_drain(without, {}, node).too_few_copies == 8
    stopping = msgspec.structs.replace(status_of(view.nodes["aux3"]), stopping=True)
    assert forecast_drain(view, {"aux3": stopping}, node).stay == 1


def test_the_last_node_has_nowhere_to_move_to() -> None:
    view = three_nodes()
    found = forecast_drain(view, {}, view.nodes["aux1"], ["aux2", "aux3"])
    assert (found.stay, found.lost) == (0, 8)


def test_a_node_that_holds_nothing_can_always_go() -> None:
    view = three_nodes()
    rows = (Partition("aux1", (), (), 7),) * 8
    view = msgspec.structs.replace(view, table=rows)
    assert forecast_drain(view, {}, view.nodes["aux3"], ["aux2"]).too_few_copies == 0


class Asked:
    """What a request to drain needs of an `Exchange`."""

    def __init__(self, node: str, **parameters: str) -> None:
        self.path = f"/cluster/nodes/{node}/drain"
        self._parameters = parameters

    def parameters(self, *_: str) -> dict[str, str]:
        return self._parameters

    async def refuse_body(self) -> None:
        """There is none."""


async def drain_at_once(coordinator: MemoryCoordinator, *asked: Asked) -> list[int]:
    """The status of each, in order; a master of its own takes each of them."""

    async def status(request: Asked) -> int:
        clock = ClusterClock(SystemClock())
        watch = ClusterWatch(coordinator, clock, three_nodes)
        api = ClusterApi(coordinator, watch, clock, three_nodes, dict, "master1")
        try:
            reply: Reply = await api.drain(cast("Exchange", request))
        except Problem as problem:
            return problem.status
        return reply.status

    return list(await asyncio.gather(*map(status, asked)))


async def test_of_two_drains_at_once_only_one_passes_if_both_would_leave_too_few_copies() -> None:
    coordinator = MemoryCoordinator()
    assert await drain_at_once(coordinator, Asked("aux1"), Asked("aux2")) == [202, 409]
    assert {"admin/drain/aux1"} == {key for key in coordinator.records if "drain/" in key}


async def test_a_forced_drain_is_seen_by_one_that_was_checked_before_it() -> None:
    coordinator = MemoryCoordinator()
    found = await drain_at_once(coordinator, Asked("aux1", force="1"), Asked("aux2"))
    assert found == [202, 409]


async def test_a_drain_is_not_tried_for_ever_when_others_come_first() -> None:
    coordinator = MemoryCoordinator()

    def come_first(_: Commit) -> None:
        coordinator.put("admin/drains", b"{}")

    coordinator.before_commit = come_first
    with pytest.raises(CoordinatorUnavailable):
        await drain_at_once(coordinator, Asked("aux3"))
