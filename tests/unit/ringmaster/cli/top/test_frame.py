"""Frames of `ringmaster top`: what is in them, at every size."""

from __future__ import annotations

from typing import Any

import pytest

from ringmaster.cli.top.figures import Reading, Watch
from ringmaster.cli.top.frame import COLUMNS, Options, frame, next_column

URL = "http://127.0.0.1:8080"
LONG = "3f2a1b4c5d6e.service-of-caches.namespace.cluster.local-7001"


def node(name: str, **fields: Any) -> dict[str, Any]:
    usual = {
        "incarnation": "i", "state": "up", "primaries": 300, "replicas": 340, "filling": 0,
        "entries": 12345, "bytes": 50 * 2**20, "usable_bytes": 100 * 2**20, "max_bytes": 2**28,
        "hits": 0, "misses": 0, "evictions": 0,
    }  # fmt: skip
    return {"id": name} | usual | fields


def status(*nodes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usual = {
        "epoch": 7, "partitions": 1024, "replicas": 2, "eviction": "adaptive", "health": "ok",
        "controller": "master2", "masters": [{"id": "master1"}, {"id": "master2"}], "reasons": [],
    }  # fmt: skip
    return {"nodes": list(nodes)} | usual | fields


HOT = [{"key": "user/7", "reads_per_s": 812.4, "node": "aux1", "partition": 3, "copies": 2}]


def watched(*statuses: dict[str, Any], hot_keys: Any = HOT) -> Watch:
    watch = Watch()
    for second, each in enumerate(statuses):
        watch.observe(Reading(float(second), each, hot_keys), f"12:00:0{second}")
    return watch


def text(watch: Watch, **options: Any) -> list[str]:
    return [line.plain for line in frame(watch, URL, Options(**{"width": 80} | options))]


def test_one_picture_has_everything() -> None:
    rebalance = {"active": True, "moving": 12, "moved_bytes": 2048, "eta_s": 9.0}
    shown = "\n".join(
        text(
            watched(
                status(node("aux1"), node("aux2")),
                status(
                    node("aux1", hits=90, misses=10, writes=6, evictions=4),
                    node("aux2", state="draining", filling=5),
                    rebalance=rebalance,
                    health="recovering",
                    reasons=["aux2 drains"],
                ),
            )
        )
    )
    for wanted in (
        *("recovering", "epoch 7", "1024 partitions", "2 copies each", "eviction adaptive"),
        *(
            "master master1, master master2 (controller)",
            "100 reads/s, 6 writes/s, 90.0% hit, 4 evictions/s",
        ),
        *("12 copies moving, 2.0 KiB/s, about 9 s left", "aux2 drains"),
        *("█████░░░░░  50%", "300 + 340", "300 + 340 (+5)"),
        *("812.4/s   2 copies  aux1  user/7", "12:00:01  aux2 up -> draining"),
    ):
        assert wanted in shown


@pytest.mark.parametrize("width", [80, 60, 40])
def test_ids_are_never_cut_and_lines_fit(width: int) -> None:
    names = [LONG if width == 80 else LONG[:20], "aux1"]
    watch = watched(status(*map(node, names)), status(*map(node, names)))
    lines = text(watch, width=width)
    for name in names:
        assert any(line.startswith(f"{name} ") for line in lines)
    assert max(map(len, lines[: lines.index("hot keys")])) <= width


@pytest.mark.parametrize("height", [1, 2, 5, 10, 24, 60])
@pytest.mark.parametrize("nodes", [0, 3, 40])
def test_a_screen_is_filled_exactly_and_ends_with_the_keys(height: int, nodes: int) -> None:
    rows = [node(f"aux{number}") for number in range(nodes)]
    watch = watched(status(*rows), status(*rows))
    lines = text(watch, height=height)
    assert len(lines) == height
    assert lines[-1] == "q quit  p pause  s sort (node)  ? help"
    if height >= 10 and nodes:
        assert any(line.startswith("aux0 ") for line in lines)


def test_hot_keys_and_changes_share_what_is_left() -> None:
    watch = watched(*(status(node("aux1", incarnation=str(n))) for n in range(9)), hot_keys=HOT * 9)
    lines = text(watch, height=24)
    assert "hot keys" in lines
    assert "recent changes" in lines
    assert lines.index("recent changes") - lines.index("hot keys") > 3
    # A long key is cut where the screen ends, and whole on a page.
    long_key = [HOT[0] | {"key": "k" * 200}]
    watch = watched(status(node("aux1")), hot_keys=long_key)
    assert max(map(len, text(watch, height=24))) <= 80
    assert any(line.endswith("k" * 200) for line in text(watch))


@pytest.mark.parametrize(
    ("column", "first"),
    [
        ("node", "a"),
        ("memory", "b"),
        ("reads/s", "c"),
        ("writes/s", "b"),
        ("hit ratio", "b"),
        ("evictions/s", "a"),
    ],
)
def test_nodes_are_sorted_by_the_column(column: str, first: str) -> None:
    before = status(node("a"), node("b"), node("c"))
    after = status(
        node("a", hits=1, misses=9, evictions=9),
        node("b", hits=5, writes=2, bytes=99 * 2**20),
        node("c", hits=50, misses=50),
    )
    lines = text(watched(before, after), sort=column)
    at = next(i for i, line in enumerate(lines) if line.startswith("node "))
    assert lines[at + 1].startswith(f"{first} ")


def test_the_next_column_comes_round() -> None:
    column = "node"
    for _ in COLUMNS:
        column = next_column(column)
    assert column == "node"


def test_a_cluster_that_does_not_answer_is_named_above_what_was_known() -> None:
    watch = watched(status(node("aux1")))
    watch.lose("cannot reach it", "12:00:09")
    lines = text(watch, height=24)
    assert lines[1:3] == ["cannot reach it", "what follows is what was known last"]
    assert any(line.startswith("aux1 ") for line in lines)
    assert text(Watch())[:2] == [URL, "connecting"]


def test_pause_and_help_are_shown() -> None:
    watch = watched(status(node("aux1")))
    assert text(watch, height=5, paused=True)[-1].startswith("PAUSED  q quit  p go on")
    assert any("sort by the next column" in line for line in text(watch, height=24, help=True))


def test_plain_terminals_get_plain_characters() -> None:
    watch = watched(status(node("aux1")), hot_keys=[HOT[0] | {"key": "k" * 200}])
    assert all(line.isascii() for line in text(watch, height=24, plain=True))


def test_a_node_that_is_gone_has_no_memory() -> None:
    (row,) = [line for line in text(watched(status(node("aux1", state="down")))) if "down" in line]
    assert "%" not in row


def test_no_controller_is_said() -> None:
    assert not any("no controller" in line for line in text(watched(status())))
    assert any("no controller" in line for line in text(watched(status(controller=None))))
