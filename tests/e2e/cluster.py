"""A real local cluster for tests: `ringmaster up`, and single services beside it, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ringmaster.client import Client
from ringmaster.errors import RingmasterError
from ringmaster.net.free_ports import free_ports
from tests.e2e.waiting import accepts, wait_until

ROOT = Path(__file__).parents[2]
RINGMASTER = (sys.executable, "-m", "ringmaster.cli")


def alive(pid: int) -> bool:
    """Whether the process exists and has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that are still there."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def arguments(pid: int) -> list[str]:
    """Its command line; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Process:
    """A handle on the service `id` of a cluster; the process behind it changes when it is restarted."""

    cluster: Cluster
    id: str

    @property
    def pid(self) -> int:
        """The running process. Fails the test if there is none within five seconds."""
        found: list[int] = []
        wait_until(lambda: found.extend(self.cluster.pids(self.id)) or found, f"{self.id} runs", 5)
        return found[0]

    def kill(self) -> int:
        """SIGKILL it; the pid it had."""
        return self._signal(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM it; the pid it has."""
        return self._signal(signal.SIGTERM)

    def pause(self) -> int:
        """SIGSTOP it; the pid it has."""
        return self._signal(signal.SIGSTOP)

    def resume(self) -> int:
        """SIGCONT it; the pid it has."""
        return self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> int:
        pid = self.pid
        os.kill(pid, number)
        return pid


class Cluster:
    """Started by `with`, ended by its end whatever happens; `options` go to `ringmaster up`.

    `folder` is made if none is given, and removed then. `environment` is added to this process's own. With
    `default_lease_dir`, `ringmaster up` chooses the lease dir. `room`: ports for so many nodes more. `program`: what is called as
    `ringmaster`.
    """

    def __init__(
        self,
        *options: str,
        masters: int = 2,
        aux: int = 3,
        nginx: str = "off",
        folder: Path | None = None,
        cwd: Path = ROOT,
        environment: dict[str, str] | None = None,
        default_lease_dir: bool = False,
        room: int = 0,
        program: Sequence[str] = RINGMASTER,
    ) -> None:
        self._made = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="rm-e2e-"))
        self.data_dir = self.folder / "data"
        self.lease_dir = self.folder / "leases"
        self._directories = {"data-dir": self.data_dir, "lease-dir": self.lease_dir}
        if default_lease_dir:
            del self._directories["lease-dir"]
        self.options = options
        self.sizes = (masters, aux)
        self.nginx = nginx
        self.program = program
        self.cwd = cwd
        self.environment = environment or {}
        self._choose_ports(room)
        self._up: subprocess.Popen[bytes] | None = None
        self._others: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """The front door."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def masters(self) -> dict[str, Process]:
        """By id."""
        return {name: Process(self, name) for name in self._names("master", self.sizes[0])}

    @property
    def nodes(self) -> dict[str, Process]:
        """By id; those started by `add_node` included."""
        return {
            name: Process(self, name)
            for name in [*self._names("aux", self.sizes[1]), *self._others]
        }

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        """The process of `ringmaster up`."""
        assert self._up is not None
        return self._up

    @property
    def output(self) -> str:
        """What `ringmaster up` printed so far."""
        path = self.folder / "up.out"
        return path.read_text() if path.exists() else ""

    def log(self, name: str) -> str:
        """What a process printed so far."""
        path = self.data_dir / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def command(self) -> list[str]:
        """The command line that starts it."""
        masters, aux = self.sizes
        flags = {
            **self._directories,
            "masters": masters,
            "aux": aux,
            "port": self.port,
            "master-port": self.master_port,
            "aux-port": self.aux_port,
            "aux-http-port": self.aux_http_port,
            "nginx": self.nginx,
        }
        given = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        return [*self.program, "up", *given, *self.options]

    def start(self) -> None:
        """Run `ringmaster up`; returns at once."""
        with (self.folder / "up.out").open("ab") as output:
            self._up = subprocess.Popen(
                self.command(),
                cwd=self.cwd,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Until `is_ready`. Fails the test with the logs if it does not come to that."""
        try:
            wait_until(self.is_ready, "the cluster is ready", timeout_s)
        except AssertionError as error:
            logs = {name: self.log(name)[-2000:] for name in [*self.masters, *self.nodes, "nginx"]}
            tails = "\n".join(f"--- {name}\n{text}" for name, text in logs.items() if text)
            raise AssertionError(f"{error}\n--- up\n{self.output}\n{tails}") from None

    def is_ready(self) -> bool:
        """Whether `/readyz` answers 200 on every master and through the front door, which with a certificate need only listen."""
        ports = [*range(self.master_port, self.master_port + self.sizes[0])]
        if "--tls-cert" in self.options:
            return all(map(_is_ready, ports)) and accepts(self.port)
        return all(map(_is_ready, [self.port, *ports]))

    def client(self, timeout_s: float = 10.0) -> Client:
        """A client of the front door."""
        return Client(self.url, timeout_s)

    def status(self) -> Any:
        """`GET /cluster`."""
        with self.client() as client:
            return client.cluster()

    def pids(self, name: str) -> list[int]:
        """The running processes of the service `name`: none, or one."""
        if name in self._others:
            process = self._others[name]
            return [process.pid] if process.poll() is None else []
        if self._up is None or self._up.poll() is not None:
            return []
        return [
            pid
            for pid in children(self._up.pid)
            if _is_service(arguments(pid), name) and alive(pid)
        ]

    def add_node(
        self, name: str, *options: str, environment: dict[str, str] | None = None
    ) -> Process:
        """Start one more node beside `ringmaster up`."""
        port, http_port = free_ports(2)
        flags = ["--data-dir", str(self.data_dir), "--id", name]
        ports = ["--port", str(port), "--http-port", str(http_port)]
        log = self.data_dir / "logs" / f"{name}.log"
        with log.open("ab") as output:
            self._others[name] = subprocess.Popen(
                [sys.executable, "-m", "aux", *flags, *ports, *options],
                cwd=self.cwd,
                env=os.environ | self.environment | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return Process(self, name)

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM to `ringmaster up`; its exit code."""
        self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL everything at once, like the loss of the machine; the data dir stays."""
        for process in (*self._others.values(), *([self._up] if self._up else [])):
            pids = children(process.pid)
            process.kill()
            process.wait(10)
            wait_until(lambda left=pids: not any(map(alive, left)), "all processes are gone")
        self._others.clear()

    def _choose_ports(self, room: int) -> None:
        masters, aux = self.sizes[0], self.sizes[1] + room
        ports = free_ports(1 + masters + 2 * aux)
        self.port, self.master_port = ports[0], ports[1]
        self.aux_port, self.aux_http_port = ports[1 + masters], ports[1 + masters + aux]

    def _names(self, kind: str, count: int) -> list[str]:
        return [f"{kind}{number}" for number in range(1, count + 1)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            sys.stderr.write(f"--- up\n{self.output}\n")
        self.kill()
        if self._made:
            shutil.rmtree(self.folder, ignore_errors=True)


def _is_ready(port: int) -> bool:
    try:
        with Client(f"http://127.0.0.1:{port}", 2.0) as client:
            return client.request("GET", "/readyz").status == 200
    except RingmasterError:
        return False


def _is_service(command: Sequence[str], name: str) -> bool:
    """Whether the command line is that of the service, not of the launcher that is about to become it."""
    if name == "nginx":
        return bool(command) and command[0].startswith("nginx: master")
    return "-m" in command[:3] and "--id" in command and command[command.index("--id") + 1] == name
