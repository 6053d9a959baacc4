"""Steps between views: what they lead to, and when the view itself is sent instead."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ringmaster.cluster.view import Filling, NodeInfo, Partition, View, decode_view, encode_view
from ringmaster.cluster.view_delta import checksum_of, decode_step, encode_step, step_between

IDS = st.sampled_from("abc")
ROWS = st.builds(
    Partition,
    st.none() | IDS,
    st.lists(IDS, max_size=2).map(tuple),
    st.lists(st.builds(Filling, IDS, st.integers(0, 99)), max_size=2).map(tuple),
    st.integers(0, 99),
    st.none() | IDS,
)


def node(id_: str, **fields: object) -> NodeInfo:
    return NodeInfo(id=id_, incarnation=f"{id_}1", address=f"{id_}:1", **fields)  # type: ignore[arg-type]


NODES = {id_: node(id_) for id_ in "abc"}


def view(epoch: int, *rows: Partition, **fields: object) -> View:
    made = View(cluster="c" * 32, epoch=epoch, replicas=2, table=rows, nodes=NODES)
    return msgspec.structs.replace(made, **fields)


@given(st.lists(st.tuples(ROWS, ROWS), min_size=4, max_size=8), st.booleans(), st.integers(1, 3))
def test_a_step_leads_to_the_very_view_it_was_made_of(
    pairs: list[tuple[Partition, Partition]], paused: bool, replicas: int
) -> None:
    before = view(7, *(old for old, _ in pairs))
    draining = {**NODES, "b": node("b", draining=True)}
    table = (pairs[0][1], *(old for old, _ in pairs[1:]))
    after = view(9, *table, paused=paused, replicas=replicas, nodes=draining)
    step = step_between(before, after)
    assert step is not None
    sent = decode_step(encode_step(step))
    assert sent.follows(decode_view(encode_view(before)))
    assert sent.applied_to(before) == after
    assert checksum_of(sent.applied_to(before)) == checksum_of(decode_view(encode_view(after)))


def test_who_comes_or_goes_is_told_by_the_view_itself() -> None:
    before = view(7, *[Partition("a", ("b",), (), 1)] * 4)
    down = {**NODES, "c": node("c", up=False)}
    assert step_between(before, msgspec.structs.replace(before, epoch=8, nodes=down)) is None
    most = view(8, *[Partition("b", ("a",), (), 8)] * 3, before.table[3])
    assert step_between(before, most) is None


def test_a_step_is_of_use_only_to_the_view_it_follows() -> None:
    before = view(7, *[Partition("a", ("b",), (), 1)] * 4)
    step = step_between(before, msgspec.structs.replace(before, epoch=8, paused=True))
    assert step is not None
    assert step.rows == {}
    assert step.follows(before)
    for other in (
        msgspec.structs.replace(before, epoch=6),
        msgspec.structs.replace(before, cluster="d" * 32),
        msgspec.structs.replace(before, table=(Partition("b", ("a",), (), 1), *before.table[1:])),
    ):
        assert not step.follows(other)
