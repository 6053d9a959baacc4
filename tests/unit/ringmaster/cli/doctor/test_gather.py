"""What is found out about this machine, and that finding out changes nothing."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ringmaster.cli.app import app
from ringmaster.cli.doctor.gather import folder_facts, gather
from ringmaster.config.settings import UpSettings, load_settings
from tests.e2e.waiting import free_port
from tests.fakes.http_cluster import FakeCluster


def settings(folder: Path, **flags: object) -> UpSettings:
    return load_settings(UpSettings, data_dir=folder / "data", **flags)


def doctor(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *words], env=environment)


async def test_looking_makes_no_folder(tmp_path: Path) -> None:
    facts = await gather(settings(tmp_path), None)
    assert os.listdir(tmp_path) == []
    assert facts.disk.problem == ""
    assert facts.disk.free > 0
    assert not facts.running
    assert (facts.coordinator.problem, facts.coordinator.took_ms) == ("", None)
    assert facts.memory.total >= facts.memory.available > 0
    assert facts.versions.missing_services == []


async def test_a_port_that_is_taken_is_found(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        facts = await gather(settings(tmp_path, port=port), None)
    (front, *_) = facts.ports
    assert (front.port, front.problem) == (port, "in use by another process")


async def test_a_coordinator_that_nobody_answers_for_is_found(tmp_path: Path) -> None:
    url = f"etcd://127.0.0.1:{free_port()}"
    facts = await gather(settings(tmp_path, coordinator=url), None)
    assert facts.coordinator.problem
    assert facts.shared_memory is None


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folder_facts(tmp_path / "not" / "there" / "yet")[0] == ""
    assert folder_facts(tmp_path / "file")[0] == f"{tmp_path / 'file'} is a file"
    assert folder_facts(tmp_path / "file" / "below")[0] == f"{tmp_path / 'file'} is a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert folder_facts(tmp_path / "data")[0] == f"{tmp_path} cannot be written"


def test_the_command_ends_with_one_if_something_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = doctor("--data-dir", str(tmp_path / "file"))
    assert done.exit_code == 1
    assert f"bad   disk         {tmp_path / 'file'}: {tmp_path / 'file'} is a file" in done.stdout
    assert "-> choose another with --data-dir" in done.stdout


def test_settings_that_cannot_be_are_refused() -> None:
    done = doctor("--replicas", "x")
    assert done.exit_code == 2
    assert done.stderr.startswith("ringmaster doctor: --replicas")


def test_a_cluster_that_is_named_is_looked_at(tmp_path: Path) -> None:
    with FakeCluster() as cluster:
        done = doctor("--data-dir", str(tmp_path), "--json", RINGMASTER_URL=cluster.url)
    found: Any = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    assert found["cluster"]["verdict"] == "warn"
    assert found["cluster"]["figure"] == f"{cluster.url} is degraded, 2 nodes"
    assert found["clocks"]["figure"] == "aux1 +0 ms"
    done = doctor("--data-dir", str(tmp_path), "--url", "ftp://x")
    assert done.exit_code == 2
