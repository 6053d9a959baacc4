"""How a cluster is shown in a terminal."""

import pytest
from rich.console import Console

from ringmaster.cli.tables import cluster_table, readable_bytes, summary
from tests.fakes.http_cluster import STATUS

NODE = {
    "id": "3f2b1c9d8e7a-7001",
    "state": "draining",
    "address": "3f2b1c9d8e7a:7001",
    "primaries": 16_384,
    "replicas": 16_384,
    "filling": 7,
    "entries": 123_456_789,
    "bytes": 164 * 2**20,
    "usable_bytes": 166 * 2**20,
    "process_bytes": 230 * 2**20,
    "max_bytes": 244 * 2**20,
    "hits": 3,
    "misses": 1,
    "evictions": 1_234_567,
}


def lines(width: int | None) -> list[str]:
    console = Console(width=width or 10_000)
    with console.capture() as captured:
        console.print(cluster_table(STATUS | {"nodes": [NODE]}, width))
    return captured.get().splitlines()[-2:]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, None])
def test_no_width_cuts_what_is_shown(width: int | None) -> None:
    head, row = lines(width)
    assert row.startswith("3f2b1c9d8e7a-7001 draining")
    assert "…" not in head + row
    assert "164.0 MiB of 166.0 MiB" in row or width == 40


def test_a_terminal_of_80_columns_has_no_line_that_wraps() -> None:
    assert all(len(line) <= 80 for line in lines(80))
    head = lines(80)[0]
    assert {"node", "state", "entries", "memory"} <= set(head.split())
    assert "address" not in head


def test_a_pipe_gets_everything() -> None:
    head, row = lines(None)
    for name in ("address", "primaries", "replicas", "filling", "hit rate", "evicted"):
        assert name in head
    assert "230.0 MiB of 244.0 MiB" in row, "the process, of its budget"


def test_bytes_read_well() -> None:
    shown = [readable_bytes(count) for count in (0, 1023, 1536, 2**28, 3 * 2**50)]
    assert shown == ["0 B", "1023 B", "1.5 KiB", "256.0 MiB", "3072.0 TiB"]


def test_a_status_without_fields_is_shown_all_the_same() -> None:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(cluster_table({}))
    assert "unknown" in captured.get()
    assert summary({}) == "unknown: epoch None, no nodes"
    assert summary(STATUS) == "degraded: epoch 7, aux1 up, aux2 down (aux2 is down)"
