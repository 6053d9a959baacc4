"""The faults, each with what it may cost. Figures in seconds; the bounds are those of `docs/consistency.md`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ringmaster.chaos.target import Target, wait_healthy
from ringmaster.errors import RingmasterError

REST_S: Final = 8.0
LOOK_S: Final = 0.5
MOVE_TIMEOUT_S: Final = 300.0

Mark = Callable[[str], None]
"""Notes an event on the timeline."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One fault under load. `nodes`/`alone`: the cluster it wants. `errors_allowed`: none, writes or any.

    `keys`: keys per client; `settle_s`: load before and after the fault. `local_only`: it needs what only processes of
    this machine offer. `p99_allowed`: how many times its value at rest p99 may be while data moves; 0 if that is not
    looked at. Its marks are: at rest, a move begins, it ends, the next begins, and so on. `per_second`: requests of all
    clients, 0: as many as they can. `ballast`: entries of 1 KB beside those of the clients.
    """

    name: str
    text: str
    longest_gap_s: float
    act: Callable[[Target, Mark], Awaitable[None]]
    nodes: int = 3
    alone: int = 1
    errors_allowed: str = "none"
    keys: int = 50
    settle_s: float = 3.0
    local_only: bool = False
    p99_allowed: float = 0.0
    per_second: float = 0.0
    ballast: int = 0
    node_options: tuple[str, ...] = ()


async def _kill(target: Target, mark: Mark) -> None:
    node = (await target.expendable())[0]
    mark(f"SIGKILL {node}")
    await target.kill(node)
    await wait_healthy(target, 2)


async def _kill_restart(target: Target, mark: Mark) -> None:
    node = (await target.kept())[0]
    mark(f"SIGKILL {node}, restarted at once")
    await target.kill_and_restart(node)
    await asyncio.sleep(1.0)
    await wait_healthy(target, 3)


async def _stop(target: Target, mark: Mark) -> None:
    node = (await target.expendable())[0]
    mark(f"{node} frozen")
    await target.pause(node, 6.0)
    mark(f"{node} goes on")
    await wait_healthy(target, 3)


async def _master_hangs(target: Target, mark: Mark) -> None:
    master = (await target.cluster())["masters"][0]["id"]
    mark(f"{master} frozen")
    await target.pause_master(master, 6.0)
    mark(f"{master} goes on")
    await wait_healthy(target, 3)


async def _two_kills(target: Target, mark: Mark) -> None:
    first, second = (await target.expendable())[:2]
    mark(f"SIGKILL {first}")
    await target.kill(first)
    await asyncio.sleep(10.0)
    mark(f"SIGKILL {second}")
    await target.kill(second)
    await wait_healthy(target, 3)


async def _terminate(target: Target, mark: Mark) -> None:
    node = (await target.expendable())[0]
    mark(f"SIGTERM {node}")
    await target.drain(node)
    await asyncio.sleep(1.0)
    await wait_healthy(target, 2)


async def _join(target: Target, mark: Mark) -> None:
    mark("a node joins")
    await target.join("newcomer")
    await wait_healthy(target, 4)


async def _controller(target: Target, mark: Mark) -> None:
    controller = (await target.cluster())["controller"]
    node = (await target.expendable())[0]
    mark(f"SIGKILL {controller}, the controller")
    await target.kill_master(controller)
    await asyncio.sleep(1.0)
    mark(f"SIGKILL {node}")
    await target.kill(node)
    await wait_healthy(target, 2)


async def _coordinator(target: Target, mark: Mark) -> None:
    mark("coordinator locked for 1 s")
    await target.lock_coordinator(1.0)
    mark("coordinator free")


async def _rolling(target: Target, mark: Mark) -> None:
    for node in (await target.kept())[:3]:
        mark(f"SIGTERM {node}")
        await target.restart(node)
        await wait_healthy(target, 3)


async def _rebalance(target: Target, mark: Mark) -> None:
    """The newcomer's start is not part of the move. Looking costs as much at rest as later."""
    mark("at rest")
    known = await _look_for(target, REST_S, lambda _: False)
    await target.join("newcomer")
    up = await _look_for(target, MOVE_TIMEOUT_S, lambda up: bool(up - known))
    newcomer = next(iter(up - known))
    mark(f"{newcomer} joined")
    await wait_healthy(target, 4, MOVE_TIMEOUT_S, LOOK_S)
    mark("moved")
    await _look_for(target, 2.0, lambda _: False)
    mark(f"SIGTERM {newcomer}")
    draining = asyncio.create_task(target.drain(newcomer))
    try:
        await _look_for(target, MOVE_TIMEOUT_S, lambda up: newcomer not in up)
        await wait_healthy(target, 3, MOVE_TIMEOUT_S, LOOK_S)
    finally:
        await draining
    mark("moved back")


async def _look_for(target: Target, within_s: float, found: Callable[[set[str]], bool]) -> set[str]:
    """The nodes that are up, drained ones included, once they are as wanted, or when the time is over."""
    loop = asyncio.get_running_loop()
    until, up = loop.time() + within_s, set[str]()
    while loop.time() < until:
        with suppress(RingmasterError):
            nodes = (await target.cluster())["nodes"]
            up = {node["id"] for node in nodes if node["state"] in SERVING}
            if found(up):
                break
        await asyncio.sleep(LOOK_S)
    return up


SERVING: Final = ("up", "draining", "drained")

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
    Scenario(
        "master-hang",
        "SIGSTOP of one master for 6 s",
        8.0,
        _master_hangs,
        alone=0,
        errors_allowed="any",
        keys=4,
    ),
    Scenario(
        "coordinator", "coordinator locked for 1 s", 0.2, _coordinator, alone=0, local_only=True
    ),
    Scenario("rolling", "rolling restart of all aux", 0.2, _rolling, alone=0),
    Scenario(
        "rebalance",
        "a fourth aux joins 200 MB, leaves",
        0.5,
        _rebalance,
        alone=0,
        p99_allowed=2.0,
        per_second=400.0,
        ballast=200_000,
        local_only=True,
        node_options=("--max-memory", "512MB"),
    ),
)
