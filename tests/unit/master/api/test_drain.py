import msgspec

from master.api.drain import COPIES_PER_S, forecast_drain
from ringmaster.cluster.view import Partition, View
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
