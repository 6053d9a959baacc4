"""A real cluster of real processes on this host, for the conformance tests."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ringmaster.cli import nginx as front_door
from ringmaster.net.free_ports import free_ports
from tests.conformance.fronts import LIMITS, Front

START_S = 40.0
STOP_S = 15.0


class LiveCluster:
    """Two nodes, a master with the fast path and one without; `nginx` in front of both where it is installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(("fastpath", "aiohttp", "nginx"), free_ports(3), strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.nginx = front_door.find_nginx()

    @contextmanager
    def running(self) -> Iterator[LiveCluster]:
        """Start everything, wait until it serves, stop it at the end."""
        with ExitStack() as stack:
            for node in ("aux1", "aux2"):
                # They are stopped one after the other: there is nobody left to drain to.
                ports = ["--port", "0", "--http-port", "0", "--drain-timeout", "0.1"]
                ports += ["--max-memory", "1GB"]
                stack.enter_context(self._process(node, "aux", ports))
            for name in ("fastpath", "aiohttp"):
                own = ["--port", str(self._ports[name]), "--unix", str(self._socket(name))]
                own += ["--max-value", str(LIMITS.max_value), "--host-names", "cache.example"]
                own += ["--no-fastpath"] if name == "aiohttp" else []
                stack.enter_context(self._process(name, "master", own))
            if self.nginx is not None:
                stack.enter_context(self._front_door(self.nginx, "nginx", ("fastpath", "aiohttp")))
            for name in self._ports:
                if name != "nginx" or self.nginx is not None:
                    self._wait_until_ready(name)
            yield self

    def front(self, name: str) -> Front:
        """`fastpath`, `aiohttp` or `nginx`."""
        return Front(name, ("127.0.0.1", self._ports[name]), proxied=name.endswith("nginx"))

    @contextmanager
    def guarded(
        self, tokens: Path, kind: str = "guarded", more: Sequence[str] = ()
    ) -> Iterator[None]:
        """Start a master with the fast path and one without that ask for `tokens`, and nginx in front of both.

        `kind`: their names begin so. `more`: of their command line.
        """
        names = (f"{kind} fastpath", f"{kind} aiohttp", f"{kind} nginx")
        self._ports.update(zip(names, free_ports(3), strict=True))
        with ExitStack() as stack:
            for name in names[:2]:
                own = ["--port", str(self._ports[name]), "--unix", str(self._socket(name))]
                own += ["--tokens", str(tokens), "--max-value", str(LIMITS.max_value)]
                own += ["--no-fastpath"] if name.endswith("aiohttp") else []
                own += ["--id", name.replace(" ", "-"), *more]
                stack.enter_context(self._process(name, "master", own))
            if self.nginx is not None:
                stack.enter_context(self._front_door(self.nginx, names[2], names[:2]))
            for name in names[: 2 + (self.nginx is not None)]:
                self._wait_until_ready(name)
            yield

    def log(self, name: str) -> str:
        """What a process printed so far."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _socket(self, name: str) -> Path:
        return self._folder / f"{name}.sock"

    @contextmanager
    def _process(self, name: str, module: str, own: list[str]) -> Iterator[None]:
        command = [sys.executable, "-m", module, "--data-dir", str(self._folder), "--id", name]
        with self._started(name, [*command, *own], signal.SIGTERM):
            yield

    @contextmanager
    def _front_door(self, nginx: str, name: str, masters: Sequence[str]) -> Iterator[None]:
        folder = self._folder / f"{name} files"
        front_door.write_configuration(
            folder,
            listen=f"127.0.0.1:{self._ports[name]}",
            masters=[f"unix:{self._socket(each)}" for each in masters],
            max_value_bytes=LIMITS.max_value,
            deadline_s=LIMITS.deadline_s,
            workers=1,
        )
        with self._started(name, [*front_door.command(nginx, folder)], signal.SIGQUIT):
            yield

    @contextmanager
    def _started(self, name: str, command: list[str], stop: signal.Signals) -> Iterator[None]:
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            self._processes[name] = process
            try:
                yield
            finally:
                process.send_signal(stop)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _wait_until_ready(self, name: str) -> None:
        deadline = time.monotonic() + START_S
        answer = "nothing"
        while time.monotonic() < deadline:
            for each, process in self._processes.items():
                assert process.poll() is None, f"{each} ended: {self._log(each)}"
            try:
                response = self.front(name).request("GET", "/readyz")
            except (OSError, EOFError) as error:
                answer = repr(error)
            else:
                answer = repr(response.body)
                if response.status == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{name} is not ready: {answer}; {self._log(name)}")

    def _log(self, name: str) -> str:
        return self.log(name)[-2000:]
