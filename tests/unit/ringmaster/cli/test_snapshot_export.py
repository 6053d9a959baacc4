"""What an export makes of keys that are stored although HTTP refuses them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ringmaster.cli.app import app
from ringmaster.protocol.canary import CANARY_PREFIX
from ringmaster.snapshot.directory import LocalDirectory
from tests.fakes.snapshot_node import started
from tests.fakes.snapshot_store import CLUSTER


@pytest.mark.parametrize("illegal", [b"b\xff", b"b\xed\xa0\x80", b"b\n"])
async def test_an_export_skips_counts_and_names_illegal_keys(
    tmp_path: Path, illegal: bytes
) -> None:
    world = await started(LocalDirectory(tmp_path / "snapshots", CLUSTER))
    world.put(0, b"a")
    world.put(1, illegal)
    world.put(2, "é".encode())
    assert await world.cycle()
    done = CliRunner().invoke(app, ["snapshot", "export", str(tmp_path)])
    assert done.exit_code == 0, done.output
    lines = done.stdout_bytes.decode().splitlines()
    assert {json.loads(line)["key"] for line in lines} == {"a", "é"}
    name = str(illegal)[2:-1].replace("\\n", "\\x0a")
    assert f'keys are not legal, 1: "{name}"' in done.stderr


async def test_keys_of_the_self_audit_are_in_no_export(tmp_path: Path) -> None:
    world = await started(LocalDirectory(tmp_path / "snapshots", CLUSTER))
    world.put(0, b"a")
    world.put(1, CANARY_PREFIX + b"m1/ab/1")
    assert await world.cycle()
    done = CliRunner().invoke(app, ["snapshot", "export", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["key"] for line in done.stdout_bytes.decode().splitlines()] == ["a"]
    assert done.stderr == ""
