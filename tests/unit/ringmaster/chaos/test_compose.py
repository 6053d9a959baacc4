"""`ringmaster chaos --compose`: what it asks of docker and compose, which here are a script that writes it down."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ringmaster.chaos.compose import ComposeTarget
from ringmaster.chaos.scenarios import SCENARIOS
from ringmaster.errors import RingmasterError

AUX = [f"{number}a2b3c4d5e6f" + "0" * 52 for number in range(1, 4)]
MASTERS = [f"{number}f9e8d7c6b5a" + "0" * 52 for number in range(1, 3)]
MORE = ["new1-7001", "new2-7001"]
NODES = [f"{container[:12]}-7001" for container in AUX]

SCRIPT = """#!{python}
import json, sys, time
from pathlib import Path
words = sys.argv[1:]
state = json.loads(Path({state!r}).read_text())
with open({calls!r}, "a") as calls:
    calls.write(json.dumps([{name!r}, *words]) + "\\n")
if words[0] in state["hangs"]:
    time.sleep(60)
if words[0] in state["fails"]:
    sys.stderr.write("first\\nno such container\\n")
    sys.exit(1)
if "ps" in words:
    print("\\n".join(state["containers"][words[-1]]))
if "port" in words:
    print(state["front"])
"""


class FakeEngine:
    """`docker` and `docker-compose` on PATH. `calls` are what they were asked."""

    def __init__(self, folder: Path, front: str) -> None:
        self._calls = folder / "calls"
        self._state = folder / "state.json"
        self.state: dict[str, Any] = {
            "front": front,
            "containers": {"nginx": ["d0" * 32], "master": MASTERS, "aux": AUX},
            "hangs": [],
            "fails": [],
        }
        self.write()
        for name in ("docker", "docker-compose"):
            text = SCRIPT.format(
                python=sys.executable, state=str(self._state), calls=str(self._calls), name=name
            )
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def write(self) -> None:
        self._state.write_text(json.dumps(self.state))

    def calls(self) -> list[list[str]]:
        """What was asked since the last call, but for questions."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        self._calls.write_text("")
        found: list[list[str]] = [json.loads(line) for line in lines]
        return [call for call in found if not {"ps", "port"} & set(call)]


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeEngine]:
    async def cluster(_: web.Request) -> web.Response:
        nodes = [{"id": node, "state": "up", "primaries": 5} for node in NODES + MORE]
        rest = {"under_replicated": 0, "rebalance": {"active": False}}
        masters = [f"{name[:12]}-8001" for name in MASTERS]
        rows = {"masters": [{"id": name} for name in masters], "controller": masters[0]}
        return web.json_response({"nodes": nodes, **rows, **rest})

    app = web.Application()
    app.router.add_get("/cluster", cluster)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("PATH", str(tmp_path))
    yield FakeEngine(tmp_path, f"127.0.0.1:{port}\n")
    await runner.cleanup()


async def started(nodes: int = 3) -> ComposeTarget:
    target = ComposeTarget(nodes, ["one.yml", "two.yml"], "mine")
    await target.start()
    return target


COMPOSE = ["docker-compose", "--file", "one.yml", "--file", "two.yml", "--project-name", "mine"]


def scaled(nodes: int) -> list[str]:
    words = ["--scale", f"aux={nodes}", "--scale", "master=2"]
    return [*COMPOSE, "up", "-d", "--no-recreate", *words]


async def test_it_is_scaled_for_the_scenario_and_left_as_it_was_found(engine: FakeEngine) -> None:
    target = await started(4)
    assert target.url == f"http://{engine.state['front'].strip()}"
    assert engine.calls() == [scaled(4)]
    await target.join("a name that Docker does not take")
    await target.close()
    assert engine.calls() == [scaled(5), scaled(3)]


async def test_each_fault_is_a_docker_command_on_the_node_s_container(engine: FakeEngine) -> None:
    target = await started()
    engine.calls()
    await target.kill(NODES[1])
    await target.kill_and_restart(NODES[0])
    await target.drain(NODES[2])
    await target.restart(NODES[2])
    await target.pause(NODES[0], 0.01)
    await target.kill_master((await target.cluster())["controller"])
    assert engine.calls() == [
        ["docker", "kill", AUX[1]],
        ["docker", "kill", AUX[0]],
        ["docker", "start", AUX[0]],
        ["docker", "stop", "--time", "45", AUX[2]],
        ["docker", "restart", "--time", "45", AUX[2]],
        ["docker", "pause", AUX[0]],
        ["docker", "unpause", AUX[0]],
        ["docker", "kill", MASTERS[0]],
    ]


async def test_a_frozen_container_goes_on_even_if_the_run_is_given_up(engine: FakeEngine) -> None:
    target = await started()
    engine.calls()
    pausing = asyncio.create_task(target.pause(NODES[0], 60.0))
    seen: list[list[str]] = []
    async with asyncio.timeout(20):
        while not seen:
            await asyncio.sleep(0.02)
            seen += engine.calls()
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pausing
    assert [*seen, *engine.calls()] == [["docker", "pause", AUX[0]], ["docker", "unpause", AUX[0]]]


async def test_what_is_not_of_the_project_is_left_alone(engine: FakeEngine) -> None:
    target = await started()
    engine.calls()
    for node in ("feedfeedfeed-7001", "-7001", "aux1", f"{MASTERS[0][:12]}-8001"):
        with pytest.raises(RingmasterError, match="no container"):
            await target.kill(node)
    with pytest.raises(RingmasterError, match="cannot be locked"):
        await target.lock_coordinator(1.0)
    assert engine.calls() == []


async def test_a_project_that_does_not_run_is_not_started(engine: FakeEngine) -> None:
    engine.state["containers"]["aux"] = []
    engine.write()
    target = ComposeTarget(3)
    with pytest.raises(RingmasterError, match="start it: docker-compose up -d"):
        await target.start()
    await target.close()
    assert engine.calls() == []


async def test_a_command_that_fails_or_hangs_is_an_error_in_time(engine: FakeEngine) -> None:
    target = await started()
    engine.state.update(fails=["kill"], hangs=["start"])
    engine.write()
    with pytest.raises(RingmasterError, match=r"docker kill \w+: no such container"):
        await target.kill(NODES[0])
    with pytest.raises(RingmasterError, match=r"docker start x: not done in 0\.5 s"):
        await target._docker("start", "x", timeout_s=0.5)
    with pytest.raises(RingmasterError, match="no-such-command"):
        await target._run(["no-such-command"])


@pytest.mark.parametrize(
    "scenario", [each for each in SCENARIOS if not each.local_only], ids=lambda each: each.name
)
async def test_every_scenario_that_is_not_of_processes_runs_on_containers(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, scenario: Any
) -> None:
    async def no_time(_: float) -> None:
        await waited(0)

    waited = asyncio.sleep
    target = await started(scenario.nodes)
    engine.calls()
    marks: list[str] = []
    monkeypatch.setattr("ringmaster.chaos.scenarios.asyncio.sleep", no_time)
    await scenario.act(target, marks.append)
    assert marks
    assert {call[0] for call in engine.calls()} <= {"docker", "docker-compose"}
