"""What a demo refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from ringmaster.cli.app import app
from ringmaster.cli.control_socket import POINTER_NAME


def test_a_cluster_whose_coordinator_is_elsewhere_gets_no_node(tmp_path: Path) -> None:
    (tmp_path / POINTER_NAME).write_text("{}")
    done = CliRunner().invoke(app, ["demo", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert f"the coordinator of this cluster is not in {tmp_path}" in done.stderr


def test_where_nothing_runs_there_is_nothing_to_show(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--data-dir", str(tmp_path)])
    assert done.exit_code == 3
    assert "no `ringmaster up` runs on the data dir" in done.stderr


def test_one_cluster_at_a_time() -> None:
    done = CliRunner().invoke(app, ["demo", "--data-dir", "x", "--url", "http://127.0.0.1:9"])
    assert done.exit_code == 2
