"""What a view says beside its fields."""

from __future__ import annotations

import msgspec
import pytest

from ringmaster.cluster.view import (
    Filling,
    NodeInfo,
    Partition,
    View,
    ViewHead,
    changed_rows,
    decode_head,
    decode_view,
    encode_view,
)


def node(id_: str, incarnation: str, up: bool = True) -> NodeInfo:
    return NodeInfo(id=id_, incarnation=incarnation, address=f"{id_}:1", up=up)


def view(epoch: int = 7, *rows: Partition, **nodes: NodeInfo) -> View:
    return View(cluster="c" * 32, epoch=epoch, replicas=2, table=rows, nodes=nodes)


ROWS = (Partition("a", ("b",), (), 1), Partition("b", ("a",), (), 2, "a"), Partition())
UP = {"a": node("a", "1"), "b": node("b", "2")}


def test_the_head_of_an_encoded_view_is_that_of_the_view() -> None:
    raw = encode_view(view(9, *ROWS, **UP))
    assert decode_head(raw) == ViewHead("c" * 32, 9)
    assert decode_view(raw).epoch == 9
    with pytest.raises(msgspec.DecodeError):
        decode_head(b'{"cluster":"c"')


def test_only_rows_that_differ_have_changed() -> None:
    before = view(7, *ROWS, **UP)
    assert list(changed_rows(before, decode_view(encode_view(before)))) == []
    moved = Partition("a", ("b",), (Filling("c", 3),), 1)
    assert list(changed_rows(before, view(8, moved, *ROWS[1:], **UP))) == [0]


@pytest.mark.parametrize(
    "nodes",
    [
        {"a": UP["a"], "b": node("b", "3")},
        {"a": UP["a"]},
        {"a": UP["a"], "b": node("b", "2", up=False)},
        {**UP, "c": node("c", "4")},
    ],
)
def test_with_another_node_up_or_down_every_row_counts_as_changed(
    nodes: dict[str, NodeInfo],
) -> None:
    before = view(7, *ROWS, **UP)
    assert list(changed_rows(before, view(8, *ROWS, **nodes))) == [0, 1, 2]
    assert list(changed_rows(None, before)) == [0, 1, 2]


@pytest.mark.parametrize(
    "raw",
    [
        encode_view(view(7)),
        b'{"cluster":"\xff","epoch":1}',
        b'{"cluster":"c","epoch":1,"more":' + b"[" * 100_000,
    ],
    ids=["no partition", "not UTF-8", "deep"],
)
def test_what_is_no_view_is_a_decode_error(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_view(raw)
