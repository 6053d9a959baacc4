"""Every command that prints something prints it as JSON if asked to, and nothing else with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from master.api.openapi_examples import EXAMPLES
from ringmaster.chaos.report import Result
from ringmaster.chaos.run import run_scenario
from ringmaster.cli import chaos, nodes
from ringmaster.cli.app import app
from ringmaster.cli.control_socket import control_socket
from ringmaster.cli.demo import command as demo
from ringmaster.cli.demo.acts import Act
from ringmaster.cli.demo.command import until_interrupted
from ringmaster.coordinator.cluster_record import ensure_cluster
from ringmaster.coordinator.engines import open_coordinator
from ringmaster.protocol.hashing import partition_of
from ringmaster.runtime.clock import SystemClock
from ringmaster.snapshot.directory import LocalDirectory
from tests.fakes.http_cluster import FakeCluster
from tests.fakes.snapshot_node import started
from tests.fakes.snapshot_store import CLUSTER

WITHOUT = {
    "up": "a service",
    "master": "a service",
    "aux": "a service",
    "put": "prints nothing; its --json says that the value is JSON",
    "completion": "prints a shell script",
    "mcp": "speaks a protocol of its own, in JSON",
}
"""Commands that cannot be asked for JSON, and why."""

FORECAST = {"copies": 9, "bytes": 2048, "seconds": 1.5, "stay": 1, "too_few_copies": 0}
TAKEN = {"id": "s", "status": "done", "nodes": {"aux1": {"status": "done", "written": 1}}}
RESTORED = {"results": [{"key": "a", "status": 201}]}
FOLDER = "FOLDER"
"""Stands for the test's folder, which is a data dir."""

CASES: dict[str, tuple[list[str], list[tuple[int, Any]], list[str]]] = {
    "get": (["a"], [], ["key", "version", "content_type", "base64"]),
    "delete": (["a"], [], ["key", "deleted"]),
    "invalidate": (["t"], [], ["tags", "invalidated"]),
    "status": ([], [], ["health", "nodes"]),
    "top": (["--interval", "0.1"], [], ["cluster", "rates", "hot_keys"]),
    "doctor": (["--data-dir", FOLDER, "--nginx", "off"], [], ["verdict", "checks"]),
    "diagnose": (
        ["--data-dir", FOLDER, "--output", f"{FOLDER}/archive.tar.gz"],
        [],
        ["file", "missing"],
    ),
    "demo": (["--no-browser"], [], ["acts", "all"]),
    "eviction": ([], [], ["eviction"]),
    "advise": ([], [(200, EXAMPLES["get", "/cluster/advice"].reply)], ["sizes"]),
    "hotkeys": ([], [(200, EXAMPLES["get", "/cluster/hotkeys"].reply)], ["hot_keys"]),
    "size": (["--entries", "1M", "--value", "1KB", "--nodes", "3"], [], ["nodes", "node_bytes"]),
    "evictions": ([], [(200, EXAMPLES["get", "/cluster/evictions"].reply)], ["evictions"]),
    "explain": (["a"], [], ["state", "detail"]),
    "locate": (["a"], [], ["primary", "replicas"]),
    "drain": (["aux1"], [], ["node", "state"]),
    "drain --dry-run": (["aux1"], [(200, FORECAST)], ["copies", "bytes"]),
    "undrain": (["aux1"], [], ["node", "draining"]),
    "forget": (["aux1"], [], ["node", "forgotten"]),
    "scale": (["--aux", "1", "--data-dir", FOLDER], [], ["nodes"]),
    "redis-password": (["--data-dir", FOLDER], [], ["user", "password"]),
    "chaos": (["kill"], [], ["name", "lost", "passed"]),
    "settings set": (["max_fills=8"], [], ["settings", "processes"]),
    "settings reset": (["max_fills"], [], ["settings", "processes"]),
    "snapshot create": ([], [(202, TAKEN)], ["status", "nodes"]),
    "snapshot list": ([FOLDER], [], ["partition", "file"]),
    "snapshot verify": ([FOLDER], [], ["partition", "problems"]),
    "snapshot export": ([FOLDER], [], ["key", "value"]),
    "snapshot restore": ([FOLDER], [(200, RESTORED)], ["written", "skipped"]),
    "token create": (["--file", f"{FOLDER}/t", "--name", "n", "--rights", "read"], [], ["token"]),
    "token list": (["--file", f"{FOLDER}/tokens"], [], ["name", "rights"]),
    "token revoke": (["--file", f"{FOLDER}/tokens", "--name", "ops"], [], ["revoked"]),
}
"""By command: arguments, replies that come first, and fields of the (first) object that is printed."""


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each with its whole name. Typer has classes of its own for what Click calls a group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield path + name, command


ALL = dict(commands(get_command(app)))


def test_every_command_has_the_option_or_a_reason() -> None:
    with_option = {
        name
        for name, command in ALL.items()
        if any("--json" in option.opts for option in command.params)
    }
    assert set(ALL) - with_option == set(WITHOUT) - {"put"}
    assert {case.partition(" --")[0] for case in CASES} == with_option - {"put"}


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    """With a data dir, in which a local cluster says that it runs, and a snapshot of one key."""
    monkeypatch.setattr(nodes, "POLL_S", 0.01)
    monkeypatch.setattr(chaos, "run_scenario", unharmed)
    monkeypatch.setattr(demo, "until_interrupted", performed)
    coordinator = open_coordinator("sqlite", tmp_path / "coordinator")
    await ensure_cluster(coordinator, 16, SystemClock())
    await coordinator.close()
    world = await started(LocalDirectory(tmp_path / "snapshots", CLUSTER))
    world.put(partition_of(b"a", world.partitions), b"a")
    assert await world.cycle()
    given = ["--file", str(tmp_path / "tokens"), "--name", "ops", "--rights", "read"]
    assert CliRunner().invoke(app, ["token", "create", *given]).exit_code == 0
    with FakeCluster() as cluster:
        cluster.values["a"] = (b"1", "text/plain")

        async def answer(request: Mapping[str, Any], sender: str) -> Mapping[str, Any]:
            return {"url": cluster.url, "nodes": ["aux1"]}

        async with control_socket(tmp_path, tmp_path, answer):
            yield cluster


async def unharmed(*_: object, **__: object) -> Result:
    """In place of `run_scenario`."""
    return Result("kill", "SIGKILL of one aux", requests=7)


async def performed(plan: object, say: Callable[[str], None], *, open_it: bool) -> list[Act]:
    """In place of `until_interrupted`."""
    say("this is told, and not printed with the figures")
    assert not open_it
    return [Act("kill", 7, 0, 0, 0, 0, 1.0, 5, 0.1)]


@pytest.mark.parametrize("case", CASES)
async def test_what_is_printed_is_json_and_nothing_else(
    cluster: FakeCluster, tmp_path: Path, case: str
) -> None:
    arguments, replies, fields = CASES[case]
    cluster.next_replies += replies
    words = [*case.split(), *(word.replace(FOLDER, str(tmp_path)) for word in arguments)]
    words += ["--json", "-"] if case == "chaos" else ["--json"]
    done = await asyncio.to_thread(
        CliRunner().invoke, app, words, env={"RINGMASTER_URL": cluster.url}
    )
    # What a doctor finds here is this machine's business.
    assert done.exit_code == 0 or case == "doctor", done.output
    if case.startswith("snapshot") and case not in {"snapshot create", "snapshot restore"}:
        found = [json.loads(line) for line in done.stdout.splitlines()]  # an object a line
    else:
        found = json.loads(done.stdout)
    first = found[0] if isinstance(found, list) else found
    assert set(fields) <= set(first)


def test_the_real_ones_are_what_is_run() -> None:
    assert chaos.run_scenario is run_scenario
    assert demo.until_interrupted is until_interrupted


def test_a_posted_value_is_shown_as_json(cluster: FakeCluster) -> None:
    cluster.values["b"] = (b'{"key":"b","value":{"n": 1}}', "application/json")
    done = CliRunner().invoke(app, ["get", "b", "--json"], env={"RINGMASTER_URL": cluster.url})
    assert json.loads(done.stdout) == {"key": "b", "version": None, "value": {"n": 1}}
