"""The faults, each with what it may cost. Figures in seconds; the bounds are those of `docs/consistency.md`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ringmaster.chaos.target import LocalTarget

Mark = Callable[[str], None]
"""Notes an event on the timeline."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One fault under load. `nodes`/`alone`: the cluster it wants. `errors_allowed`: none, writes or any.

    `keys`: keys per client; `settle_s`: load before and after the fault.
    """

    name: str
    text: str
    longest_gap_s: float
    act: Callable[[LocalTarget, Mark], Awaitable[None]]
    nodes: int = 3
    alone: int = 1
    errors_allowed: str = "none"
    keys: int = 50
    settle_s: float = 3.0


async def _kill(target: LocalTarget, mark: Mark) -> None:
    mark("SIGKILL solo1")
    await target.signal("nodes", "solo1", signal.SIGKILL)
    await target.wait_healthy(2)


async def _kill_restart(target: LocalTarget, mark: Mark) -> None:
    mark("SIGKILL aux1, restarted at once")
    await target.signal("nodes", "aux1", signal.SIGKILL)
    await asyncio.sleep(1.0)
    await target.wait_healthy(3)


async def _stop(target: LocalTarget, mark: Mark) -> None:
    pid_node = "solo1"
    mark("SIGSTOP solo1")
    pid = await target.pid("nodes", pid_node)
    await _pause(pid, 6.0)
    mark("SIGCONT solo1")
    await target.wait_healthy(3)


async def _pause(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


async def _two_kills(target: LocalTarget, mark: Mark) -> None:
    mark("SIGKILL solo1")
    await target.signal("nodes", "solo1", signal.SIGKILL)
    await asyncio.sleep(10.0)
    mark("SIGKILL solo2")
    await target.signal("nodes", "solo2", signal.SIGKILL)
    await target.wait_healthy(3)


async def _terminate(target: LocalTarget, mark: Mark) -> None:
    mark("SIGTERM solo1")
    await target.signal("nodes", "solo1", signal.SIGTERM)
    await asyncio.sleep(1.0)
    await target.wait_healthy(2)


async def _join(target: LocalTarget, mark: Mark) -> None:
    mark("a node joins")
    await target.add_node("newcomer")
    await target.wait_healthy(4)


async def _controller(target: LocalTarget, mark: Mark) -> None:
    controller = (await target.cluster())["controller"]
    mark(f"SIGKILL {controller}, the controller")
    await target.signal("masters", controller, signal.SIGKILL)
    await asyncio.sleep(1.0)
    mark("SIGKILL solo1")
    await target.signal("nodes", "solo1", signal.SIGKILL)
    await target.wait_healthy(2)


async def _coordinator(target: LocalTarget, mark: Mark) -> None:
    mark("coordinator locked for 1 s")
    await target.lock_coordinator(1.0)
    mark("coordinator free")


async def _rolling(target: LocalTarget, mark: Mark) -> None:
    for name in ("aux1", "aux2", "aux3"):
        mark(f"SIGTERM {name}")
        before = await target.pid("nodes", name)
        await target.signal("nodes", name, signal.SIGTERM)
        while True:
            await asyncio.sleep(0.2)
            node = [n for n in (await target.cluster())["nodes"] if n["id"] == name]
            if node and node[0]["state"] == "up" and node[0]["pid"] != before:
                break
        await target.wait_healthy(3)


SCENARIOS: Final = (
    Scenario("kill", "SIGKILL of one aux", 1.0, _kill, errors_allowed="writes"),
    Scenario("stop", "SIGSTOP of one aux for 6 s", 3.5, _stop, errors_allowed="writes"),
    Scenario(
        "two-kills",
        "two SIGKILLs, 10 s apart (5 aux)",
        1.0,
        _two_kills,
        nodes=5,
        alone=2,
        errors_allowed="writes",
        keys=1250,
    ),
    Scenario(
        "kill-restart",
        "SIGKILL and restart, same id",
        1.0,
        _kill_restart,
        alone=0,
        errors_allowed="writes",
    ),
    Scenario("drain", "SIGTERM (drain) of one aux", 0.2, _terminate),
    Scenario("join", "a fourth aux joins", 0.2, _join, alone=0),
    Scenario(
        "controller", "SIGKILL of controller, then aux", 4.0, _controller, errors_allowed="any"
    ),
    Scenario("coordinator", "coordinator locked for 1 s", 0.2, _coordinator, alone=0),
    Scenario("rolling", "rolling restart of all aux", 0.2, _rolling, alone=0),
)
