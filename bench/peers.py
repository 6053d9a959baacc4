"""The contestants of `make bench`: each starts its own processes on free loopback ports and ends them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.error import URLError
from urllib.request import Request, urlopen

from ringmaster.cli import nginx as front
from ringmaster.cli.local_cluster import front_door_workers
from ringmaster.net.free_ports import free_ports

START_TIMEOUT_S: Final = 60.0
BOTH_CORES: Final = "0-1"
SERVER_CORE: Final = "0"
ROOT: Final = Path(__file__).parents[1]


class Missing(Exception):
    """A contestant needs something that this machine does not have."""


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(ready: Callable[[], bool], what: str) -> None:
    """Until `ready()`, at most `START_TIMEOUT_S`."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if time.monotonic() > deadline:
            raise Missing(f"{what} did not start in {START_TIMEOUT_S:g} s")
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether a GET of `url` gives 200."""
    try:
        with urlopen(url, timeout=2.0) as response:  # noqa: S310 - loopback
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def post(url: str, body: bytes, method: str = "POST") -> bytes:
    """The body of the reply. Raises `URLError` or `OSError`."""
    request = Request(url, data=body, method=method, headers={"Content-Type": "application/json"})  # noqa: S310
    with urlopen(request, timeout=60.0) as response:  # noqa: S310 - loopback
        raw: bytes = response.read()
        return raw


class Peer:
    """Processes in a folder of their own, pinned to `cores`; ended by `__exit__` whatever happens."""

    name = ""

    def __init__(self, cores: str) -> None:
        self.cores = cores
        self.folder = Path(tempfile.mkdtemp(prefix="rm-bench-"))
        self.port = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Where wrk sends its requests."""
        return f"http://127.0.0.1:{self.port}"

    def get_path(self, key: str) -> str:
        """The target of a GET of `key`."""
        raise NotImplementedError(self.name)

    def start(self) -> None:
        """Start all processes and wait until they serve."""

    def load(self, prefix: str, count: int, size: int) -> None:
        """Store `count` values of `size` bytes under `<prefix><number>`."""

    def tags_file(self, prefix: str) -> str:
        """A file with the ETags of what was loaded under `prefix`, one a line in the order of the numbers; empty: none."""
        del prefix
        return ""

    def spawn(self, *argv: str, **environment: str) -> subprocess.Popen[bytes]:
        """Run a program pinned to our cores, its output in our folder, with `environment` beside ours."""
        if shutil.which(argv[0]) is None:
            raise Missing(f"{argv[0]} is not installed")
        with (self.folder / "out.log").open("ab") as output:
            process = subprocess.Popen(
                ["taskset", "-c", self.cores, *argv],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
            )
        self._processes.append(process)
        return process

    def front_door(self, upstream: Sequence[str]) -> int:
        """Start nginx as `ringmaster up` does, before `upstream`; its port."""
        nginx = front.find_nginx()
        if nginx is None:
            raise Missing("nginx is not installed")
        port = free_ports(1)[0]
        folder = self.folder / "nginx"
        front.write_configuration(
            folder,
            listen=f"127.0.0.1:{port}",
            masters=upstream,
            max_value_bytes=8 * 2**20,
            deadline_s=6.0,
            workers=front_door_workers(),
        )
        self.spawn(*front.command(nginx, folder))
        return port

    def plain_front_door(self, upstream: str) -> int:
        """Start nginx as somebody else would set it up: two workers, TCP, connections kept, nothing that we know of; its port."""
        nginx = front.find_nginx()
        if nginx is None:
            raise Missing("nginx is not installed")
        port = free_ports(1)[0]
        folder = self.folder / "nginx"
        folder.mkdir()
        (folder / "nginx.conf").write_text(
            # Workers of another user could not keep a large body in this folder.
            f"{'user root root;' if os.geteuid() == 0 else ''}\n"
            f"worker_processes 2;\npid {folder}/nginx.pid;\nerror_log stderr crit;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; keepalive_requests 1000000; {_temporary(folder)}\n"
            f"  upstream cache {{ server {upstream}; keepalive 128; keepalive_requests 1000000; }}\n"
            f"  server {{ listen 127.0.0.1:{port}; client_max_body_size 64m;\n"
            "    location / { proxy_pass http://cache; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host; }\n"
            "  }\n}\n"
        )
        self.spawn(*front.command(nginx, folder))
        return port

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process, by its id."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def compiled_path() -> str:
    """The folder with the hot modules compiled (`make compiled`), empty if it is not there or not current."""
    asked = [sys.executable, str(ROOT / "tooling" / "compile.py"), "--path"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


class Ringmaster(Peer):
    """One master and `nodes` aux from `ringmaster up`; behind nginx if `nginx`, or a plain one if `plain`. Compiled, or as it is if not `compiled`."""

    def __init__(
        self,
        cores: str,
        *,
        replicas: int = 1,
        fastpath: bool = True,
        nginx: bool = False,
        plain: bool = False,
        nodes: int = 2,
        compiled: bool = True,
    ) -> None:
        super().__init__(cores)
        self.name = "ringmaster"
        self._nodes = nodes
        self._replicas = replicas
        self._fastpath = fastpath
        self._nginx = nginx
        self._plain = plain
        self._compiled = compiled
        self.aux_port = 0

    def get_path(self, key: str) -> str:
        return f"/data/{key}"

    def start(self) -> None:
        path = compiled_path() if self._compiled else str(ROOT)
        if not path:
            raise Missing("its hot modules are not compiled (make compiled)")
        base = free_ports(8)[0]
        self.aux_port = base + 3
        flags = {
            "data-dir": self.folder / "data",
            "masters": 1,
            "aux": self._nodes,
            "port": base,
            "master-port": base + 1,
            "aux-port": self.aux_port,
            "aux-http-port": base + 5,
            "replicas": self._replicas,
            "nginx": "on" if self._nginx else "off",
            "max-memory": "1GB",
            "log-level": "warning",
        }
        given = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        if not self._fastpath:
            given.append("--no-fastpath")
        self.spawn(sys.executable, "-P", "-m", "ringmaster.cli", "up", *given, PYTHONPATH=path)
        self.port = base
        wait_for(lambda: answers(f"{self.url}/readyz"), "ringmaster")
        if self._plain:
            self.port = self.plain_front_door(f"127.0.0.1:{self.port}")
            wait_for(lambda: answers(f"{self.url}/readyz"), "nginx")

    def load(self, prefix: str, count: int, size: int) -> None:
        value = "x" * size
        per_request = max(1, min(10_000, 16 * 2**20 // (size + 64)))
        for first in range(0, count, per_request):
            items = [
                {"key": f"{prefix}{number}", "value": value}
                for number in range(first, min(count, first + per_request))
            ]
            reply = json.loads(post(f"{self.url}/data/bulk", json.dumps(items).encode()))
            with (self.folder / f"tags-{prefix}").open("a") as file:
                file.writelines(f'"{result["version"]}"\n' for result in reply["results"])

    def tags_file(self, prefix: str) -> str:
        return str(self.folder / f"tags-{prefix}")

    @property
    def redis_password(self) -> str:
        """Of who may write through the node's port."""
        words = ["redis-password", "--write", "--data-dir", str(self.folder / "data")]
        done = subprocess.run(
            [sys.executable, "-m", "ringmaster.cli", *words],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
        return done.stdout.strip()


class Webdis(Peer):
    """webdis in front of Redis, both of Debian; behind nginx if `nginx`, or a plain one if `plain`."""

    def __init__(self, cores: str, *, nginx: bool = False, plain: bool = False) -> None:
        super().__init__(cores)
        self.name = "webdis"
        self._nginx = nginx
        self._plain = plain
        self.redis_port = 0

    def get_path(self, key: str) -> str:
        return f"/GET/{key}"

    def start(self) -> None:
        self.redis_port = free_ports(2)[0]
        http_port = self.redis_port + 1
        arguments = ["--port", str(self.redis_port), "--save", "", "--bind", "127.0.0.1"]
        self.spawn("redis-server", *arguments)
        settings = {
            "redis_host": "127.0.0.1",
            "redis_port": self.redis_port,
            "http_host": "127.0.0.1",
            "http_port": http_port,
            "threads": 2,
            "pool_size": 10,
            "daemonize": False,
            "database": 0,
            "verbosity": 1,
            "http_max_request_size": 64 * 2**20,
            "logfile": str(self.folder / "webdis.log"),
        }
        path = self.folder / "webdis.json"
        path.write_text(json.dumps(settings))
        wait_for(lambda: _accepts(self.redis_port), "redis-server")
        self.spawn("webdis", str(path))
        self.port = http_port
        wait_for(lambda: answers(f"{self.url}/PING"), "webdis")
        if self._nginx or self._plain:
            address = f"127.0.0.1:{http_port}"
            self.port = (
                self.plain_front_door(address) if self._plain else self.front_door([address])
            )
            wait_for(lambda: answers(f"{self.url}/PING"), "nginx")

    def load(self, prefix: str, count: int, size: int) -> None:
        value = b"x" * size
        with socket.create_connection(("127.0.0.1", self.redis_port)) as link:
            for first in range(0, count, 500):
                numbers = range(first, min(count, first + 500))
                link.sendall(b"".join(_redis_set(f"{prefix}{n}".encode(), value) for n in numbers))
                left = 5 * len(numbers)
                while left:
                    left -= len(link.recv(65536))


class NginxSelf(Peer):
    """nginx proxying to an nginx that returns a constant: the ceiling for anything behind nginx."""

    name = "nginx"

    def __init__(self, cores: str) -> None:
        super().__init__(cores)
        self._sizes = {"k": 100, "s1k": 1000, "s10k": 10_000, "s100k": 100_000}

    def get_path(self, key: str) -> str:
        return f"/data/{key}"

    def start(self) -> None:
        nginx = front.find_nginx()
        if nginx is None:
            raise Missing("nginx is not installed")
        folder = self.folder / "origin"
        folder.mkdir()
        address = f"unix:{self.folder}/origin.sock"
        (folder / "nginx.conf").write_text(
            f"worker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr crit;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; keepalive_requests 1000000; default_type application/json; {_temporary(folder)}\n"
            f'  server {{ listen {address}; location / {{ return 200 \'{{"key":"k1","value":"{"x" * 100}"}}\'; }} }}\n'
            "}\n"
        )
        self.spawn(*front.command(nginx, folder))
        self.port = self.front_door([address])
        wait_for(lambda: answers(f"{self.url}/x"), "nginx")


class Etcd(Peer):
    """etcd's own JSON gateway, one member."""

    name = "etcd"

    def start(self) -> None:
        self.port = free_ports(2)[0]
        peer = f"http://127.0.0.1:{self.port + 1}"
        self.spawn(
            "etcd", "--data-dir", str(self.folder / "etcd"), "--log-level", "error",
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}",
        )  # fmt: skip
        wait_for(lambda: answers(f"{self.url}/health"), "etcd")

    def get_path(self, key: str) -> str:
        del key
        return "/v3/kv/range"

    def load(self, prefix: str, count: int, size: int) -> None:
        from base64 import b64encode  # noqa: PLC0415 - only here

        value = b64encode(b"x" * size).decode()
        for number in range(count):
            key = b64encode(f"{prefix}{number}".encode()).decode()
            post(f"{self.url}/v3/kv/put", json.dumps({"key": key, "value": value}).encode())


def _temporary(folder: Path) -> str:
    """Have nginx keep its files in `folder`."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


def _redis_set(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)
