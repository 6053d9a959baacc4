"""How a cluster is shown in a terminal."""

from rich.console import Console

from ringmaster.cli.tables import cluster_table, readable_bytes, summary
from tests.fakes.http_cluster import STATUS


def test_a_table_of_nodes_fits_a_terminal_of_80_columns() -> None:
    node = STATUS["nodes"][0] | {"state": "draining", "entries": 123_456, "bytes": 2**28}
    console = Console(width=80)
    with console.capture() as captured:
        console.print(cluster_table(STATUS | {"nodes": [node]}, console.width))
    lines = captured.get().splitlines()
    assert lines[-2].split()[:3] == ["node", "state", "primaries"]
    assert "256.0 MiB of 256.0 MiB" in lines[-1]
    assert lines[-1].endswith("0")


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
