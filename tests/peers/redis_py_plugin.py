"""A pytest plugin for the test suite of redis-py: skips what nodes do not support, and lets everything else fail.

It runs inside that suite's pytest, so it imports nothing of this project. The variable `RINGMASTER_PEER` names the
selection, `redis_py.toml`. A test is skipped at the moment it sends a command that nodes do not have. A test that sends
supported commands only must pass, unless the selection excludes it with a reason. The run also fails if an exclusion
matches no test, and if fewer tests passed than the selection demands: a suite that skips everything shows nothing.
"""

from __future__ import annotations

import functools
import os
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.connection
import redis.connection

CONTAINERS = frozenset({b"CLIENT", b"CONFIG"})
"""Commands whose first argument says what they do."""


class Peer:
    """One run: what the selection allows, and what the tests did."""

    def __init__(self, selection: Path) -> None:
        content = tomllib.loads(selection.read_text(encoding="utf-8"))
        self.commands = {command.encode() for command in content["commands"]}
        self.least_passed: int = content["least_passed"]
        self.excluded: set[str] = {test for group in content["excluded"] for test in group["tests"]}
        self.matched: set[str] = set()
        self.unsupported: Counter[str] = Counter()
        self.passed = 0
        self.is_testing = False
        self.has_sent = False
        self.is_partial = False
        self.keys: list[Any] = []
        """Keys that the running test may have written."""

    def check(self, words: tuple[Any, ...]) -> None:
        """Skip the running test if nodes do not have the command; remember the key that it may write."""
        if not self.is_testing:
            return  # the suite asks for the server's version before it collects
        command = _command(words)
        if command not in self.commands:
            name = command.decode(errors="replace")
            self.unsupported[name] += 1
            pytest.skip(f"nodes have no {name}")
        # Every connection introduces itself; that alone is no use of the node.
        self.has_sent = self.has_sent or not command.startswith((b"AUTH", b"CLIENT"))
        if len(words) > 1 and command == b"SET":
            self.keys.append(words[1])

    # Hooks of pytest.

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        kept, excluded = [], []
        for item in items:
            test = item.nodeid.removeprefix("tests/").partition("[")[0]
            if test in self.excluded:
                self.matched.add(test)
                excluded.append(item)
            else:
                kept.append(item)
        config.hook.pytest_deselected(items=excluded)
        items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Any:
        self.is_testing, self.has_sent = True, False
        try:
            return (yield)
        finally:
            self.is_testing = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed and self.has_sent

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.is_partial = bool(session.config.option.keyword)
        if self.faults() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        write = terminalreporter.write_line
        skipped = ", ".join(f"{name} {count}" for name, count in self.unsupported.most_common())
        write(f"skipped at a command that nodes do not have: {skipped}")
        write(f"passed, and sent a command to the node: {self.passed}")
        for fault in self.faults():
            write(fault, red=True)

    def faults(self) -> list[str]:
        """What is wrong with the selection, a sentence each."""
        stale = sorted(self.excluded - self.matched)
        found = [f"{test} is excluded, but there is no such test" for test in stale]
        if self.passed < self.least_passed and not self.is_partial:
            found.append(f"too few tests passed: {self.least_passed} should")
        return found


def pytest_configure(config: pytest.Config) -> None:
    peer = Peer(Path(os.environ["RINGMASTER_PEER"]))
    config.pluginmanager.register(peer, "ringmaster_peer_run")
    _check_before(peer, redis.connection.HiredisRespSerializer, "pack")
    _check_before(peer, redis.connection.PythonRespSerializer, "pack")
    _check_before(peer, redis.asyncio.connection.AbstractConnection, "pack_command")
    _replace_flushdb(peer)


def _check_before(peer: Peer, kind: Any, method: str) -> None:
    pack = getattr(kind, method)

    @functools.wraps(pack)
    def checked(self: Any, *words: Any) -> Any:
        peer.check(words)
        return pack(self, *words)

    setattr(kind, method, checked)


def _replace_flushdb(peer: Peer) -> None:
    """The suite ends each test with FLUSHDB, which nodes do not have: delete what the test has written instead."""

    def blocking(client: Any, *_args: Any, **_options: Any) -> bool:
        for key in peer.keys:
            client.delete(key)
        peer.keys.clear()
        return True

    async def asynchronous(client: Any, *_args: Any, **_options: Any) -> bool:
        for key in peer.keys:
            await client.delete(key)
        peer.keys.clear()
        return True

    redis.Redis.flushdb = blocking
    redis.asyncio.Redis.flushdb = asynchronous


def _command(words: tuple[Any, ...]) -> bytes:
    """The name of a command in capitals; of a container command with the first argument."""
    first = [word.encode() if isinstance(word, str) else bytes(word) for word in words[:1]]
    split = b"".join(first).upper().split() or [b""]
    if split[0] in CONTAINERS and len(split) == 1 and len(words) > 1:
        split.append(str(words[1]).encode().upper())
    return b" ".join(split)
