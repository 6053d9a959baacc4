"""What a run does to the real code: it reports to the invariants, and nothing in it is random but by the seed."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import structlog

import aux.node.fills
import aux.node.grants
import aux.node.node
import aux.node.status_report
import aux.node.tag_sweep
import aux.server.bulk_commands
import aux.server.control_commands
import aux.server.data_commands
import aux.storage.store
from aux.node.fills import Asker, Fills
from aux.node.node import Node
from aux.node.roles import Roles
from aux.replication.primary import Primary
from aux.server.server import ClientConnection
from aux.storage.memory_accounting import ProcessAccounting
from ringmaster.cluster import time_agreement
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.snapshot import format as layout
from tests.sim import fill_rules
from tests.sim.cluster import Cluster
from tests.sim.hub import Hub
from tests.sim.invariants import Invariants, Served, requests_of

BLOCK_BYTES = 64
"""Of a snapshot: a few entries, so that damage can leave the others."""

SLOW_SWEEP_S = 3.0
"""From one sweep of dead entries to the next."""

Patch = tuple[Any, str, Any]
"""Whose attribute, its name, and what it is while a run lasts."""


@contextmanager
def instrumented(cluster: Cluster, seed: int) -> Iterator[None]:
    """The real code is watched, and repeats itself, within this context."""
    state = random.getstate()
    random.seed(seed)
    with ExitStack() as stack:
        for patches in (_of_nodes(cluster), _of_removals(cluster), _of_chance(seed)):
            for target, name, value in patches:
                stack.enter_context(patch.object(target, name, value))
        stack.callback(random.setstate, state)
        stack.callback(structlog.reset_defaults)
        hub = cluster.hub
        structlog.configure(
            processors=[_Tracer(hub)],
            wrapper_class=structlog.make_filtering_bound_logger(
                logging.DEBUG if hub.log is not None else logging.CRITICAL
            ),
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=False,
        )
        yield


def _of_nodes(cluster: Cluster) -> list[Patch]:
    """What nodes serve, report and hold for the time."""
    invariants = cluster.invariants

    class WatchedRoles(Roles):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.served = Served(invariants.served_changed)
            self.home = cluster.running()

        def loaded(self, primary: Primary) -> None:
            if self.home.crashed:
                return  # what a dead process was about to do is only thrown away at the end of the run
            invariants.losses.loaded(primary)
            super().loaded(primary)

    def status_of(node: Node) -> NodeStatus:
        status = aux.node.status_report.status_of(node)
        invariants.reported(status)
        return status

    receive = ClientConnection.data_received
    lead = time_agreement._Joining._lead_on

    def data_received(connection: ClientConnection, data: bytes) -> None:
        node, loop = connection._node, cluster.running()
        held = loop.boottime_at(loop.true_now()) < node.clock.lease.held_until
        before = requests_of(node)
        receive(connection, data)
        invariants.served(loop, node, held, before)

    async def lead_on(joining: Any, known: Any, record: Any) -> bool:
        done = await lead(joining, known, record)
        if done and (known is None or known.boot_id != joining._boot_id):
            cluster.begin_time(joining._clock.now_ms())
        return done

    return [
        (aux.node.node, "Roles", WatchedRoles),
        (aux.storage.store, "ProcessAccounting", _accounting),
        (aux.server.control_commands, "status_of", status_of),
        (ClientConnection, "data_received", data_received),
        (time_agreement._Joining, "_lead_on", lead_on),
    ]


@cache
def _accounting() -> ProcessAccounting:
    """One for all nodes: its tables are always the same, and take a millisecond to make."""
    return ProcessAccounting()


def _of_removals(cluster: Cluster) -> list[Patch]:
    """What primaries remove by themselves, which tags they have be dead, and which sessions end."""
    invariants = cluster.invariants

    def watched(method: Callable[..., Any], *, overlay: bool) -> Callable[..., Any]:
        """`method` removes keys that have an uncommitted entry, or (`overlay` false) those that have none."""

        def report(primary: Primary, key: bytes) -> Any:
            if primary.in_overlay(key) is overlay:
                invariants.evicted(cluster.running(), primary, key)
            return method(primary, key)

        return report

    return [
        (Primary, "evict", watched(Primary.evict, overlay=False)),
        (Primary, "expire", watched(Primary.expire, overlay=True)),
        (Primary, "invalidate", _invalidate(invariants)),
        (Fills, "forget", _forget(cluster.hub, invariants.lapses)),
    ]


def _invalidate(invariants: Invariants) -> Callable[..., bool]:
    """`Primary.invalidate`, which notes where it had an effect."""
    invalidate = Primary.invalidate

    def noted(primary: Primary, tag: str, *rest: Any) -> bool:
        concerned = invalidate(primary, tag, *rest)
        if concerned:
            invariants.invalidated(tag, primary)
        return concerned

    return noted


def _forget(hub: Hub, lapses: list[float]) -> Callable[[Fills, Asker], None]:
    """`Fills.forget`, which notes when a session ended."""
    forget = Fills.forget

    def noted(fills: Fills, asker: Asker) -> None:
        lapses.append(hub.now)
        forget(fills, asker)

    return noted


def _of_chance(seed: int) -> list[Patch]:
    """Nothing is secret, blocks are small and tokens short-lived."""
    tokens = random.Random(f"tokens {seed}")
    # What is dead is swept at once, or stays for as long as it does in large partitions.
    sweeps_s = random.Random(f"sweeps {seed}").choice((aux.node.tag_sweep.LOOK_S, SLOW_SWEEP_S))
    return [
        (secrets, "token_hex", lambda size=32: tokens.randbytes(size).hex()),
        (secrets, "token_bytes", tokens.randbytes),
        (layout, "BLOCK_BYTES", BLOCK_BYTES),
        (aux.node.fills, "TOKEN_S", fill_rules.TOKEN_S),
        # So few keys that all of them are hot, once they are read.
        (aux.server.data_commands, "SAMPLE_MASK", 0),
        (aux.server.bulk_commands, "SAMPLE_MASK", 0),
        (aux.node.grants, "HOT", 1),
        (aux.node.tag_sweep, "LOOK_S", sweeps_s),
        (aux.node.tag_sweep, "MOST_REST_S", max(sweeps_s, aux.node.tag_sweep.MOST_REST_S)),
    ]


class _Tracer:
    """The real code's own log lines, in the trace."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __call__(self, _logger: object, level: str, event: dict[str, Any]) -> str:
        loop = asyncio._get_running_loop()
        who = getattr(loop, "name", "?")
        more = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
        self._hub.trace(who, f"{level}: {event.get('event')} {more}")
        return ""
