"""The compose cluster as tests handle it: one project of its own, on free ports, gone afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ringmaster.net.free_ports import free_ports

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "tests/compose/docker-compose.build.yml")
ETCD_FILES = (
    FILES[0],
    "docker-compose.etcd.yml",
    FILES[1],
    "tests/compose/docker-compose.etcd-build.yml",
)
TLS_FILES = (
    FILES[0],
    "docker-compose.tls.yml",
    FILES[1],
    "tests/compose/docker-compose.tls-build.yml",
)
ETCD_TLS_FILES = (
    *(FILES[0], "docker-compose.etcd.yml", "docker-compose.tls.yml", "docker-compose.etcd-tls.yml"),
    *(ETCD_FILES[2:]),
    TLS_FILES[-1],
)
DOCKERFILES = ("Dockerfile", "nginx/Dockerfile", "prometheus/Dockerfile", "grafana/Dockerfile")
ETCD_DOCKERFILES = (*DOCKERFILES, "etcd/Dockerfile")

T = TypeVar("T")


def obstacle(dockerfiles: tuple[str, ...]) -> str | None:
    """Why what these files make cannot run here; None if it can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    engine = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    if engine.returncode:
        return "no Docker engine answers (docker info)"
    if compose_command() is None:
        return "there is neither docker-compose nor docker compose"
    for image in base_images(dockerfiles):
        for command in (["docker", "image", "inspect", image], ["docker", "pull", "-q", image]):
            if not subprocess.run(
                command, capture_output=True, timeout=300, check=False
            ).returncode:
                break
        else:
            return f"the image {image} is not here and cannot be pulled"
    return None


def compose_command() -> list[str] | None:
    """docker-compose (1.29, of Debian) if it is installed, else Docker's plugin."""
    for command in (["docker-compose"], ["docker", "compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run(
                [*command, "version"], capture_output=True, timeout=30, check=False
            ).returncode
        ):
            return command
    return None


def base_images(dockerfiles: tuple[str, ...]) -> list[str]:
    """What the Dockerfiles begin with and do not make themselves."""
    stages: set[str] = set()
    images: dict[str, None] = {}
    for name in dockerfiles:
        for line in (ROOT / name).read_text().splitlines():
            if match := re.match(r"FROM (\S+)(?: AS (\S+))?", line):
                if match[1] not in stages:
                    images[match[1]] = None
                stages.add(match[2] or "")
    return list(images)


def wait_for(what: str, check: Callable[[], T], timeout_s: float = 60.0) -> T:
    """The first true value of `check`; an OSError of it counts as not yet. Raises AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            if value := check():
                return value
            last = value
        except OSError as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {timeout_s:.0f} s, last seen: {last!r}")


class Project:
    """Runs compose and docker for one project, made of compose `files`. `with` builds, starts and removes it."""

    def __init__(self, name: str, files: tuple[str, ...]) -> None:
        self.name = f"ringmaster-{name}-{os.getpid()}"
        self.up_output = ""
        self.port, self.prometheus_port, self.grafana_port = free_ports(3)
        command = compose_command()
        assert command
        self._compose = [*command, "--project-name", self.name]
        self._compose += [word for file in files for word in ("--file", str(ROOT / file))]
        self._environment = {
            # Settings of whoever runs the tests are not ours.
            **{
                name: text
                for name, text in os.environ.items()
                if not name.startswith("RINGMASTER_")
            },
            "RINGMASTER_PORT": str(self.port),
            "RINGMASTER_PROMETHEUS_PORT": str(self.prometheus_port),
            "RINGMASTER_GRAFANA_PORT": str(self.grafana_port),
            # The docker command's own advice about builders is no warning of ours.
            "COMPOSE_DOCKER_CLI_BUILD": "0",
            "COMPOSE_ANSI": "never",
        }

    def __enter__(self) -> Self:
        try:
            self.up_output = self.compose("up", "--build", "-d", timeout_s=1100.0)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self.compose("down", "--volumes", "--rmi", "local", "--timeout", "5")

    def compose(self, *words: str, timeout_s: float = 600.0) -> str:
        """What compose wrote, both streams. Raises AssertionError with it if compose fails."""
        done = subprocess.run(
            [*self._compose, *words],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"compose {' '.join(words)}:\n{done.stdout}"
        return done.stdout

    def docker(self, *words: str, timeout_s: float = 60.0) -> str:
        """Standard output of docker."""
        return subprocess.run(
            ["docker", *words], capture_output=True, text=True, timeout=timeout_s, check=True
        ).stdout.strip()

    def kill_processes(self, container: str) -> None:
        """SIGKILL for everything inside but the first process, from inside: as when it crashes."""
        command = ["docker", "exec", container, "bash", "-c", "kill -KILL -1"]
        # It may not live to give a result.
        subprocess.run(command, capture_output=True, timeout=60, check=False)

    def containers(self, service: str, *, running: bool = True) -> list[dict[str, Any]]:
        """`docker inspect` of a service's containers, in order of their number."""
        ids = self.docker(
            "ps", "--quiet", "--no-trunc", *([] if running else ["--all"]),
            "--filter", f"label=com.docker.compose.project={self.name}",
            "--filter", f"label=com.docker.compose.service={service}",
        ).split()  # fmt: skip
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids)) if ids else []
        return sorted(
            found,
            key=lambda one: int(one["Config"]["Labels"]["com.docker.compose.container-number"]),
        )

    def logs(self) -> str:
        """The last lines of every service, for a failure's report."""
        return self.compose("logs", "--tail", "40")
