"""Real etcd processes, on free ports, in temporary directories. Blocking: for fixtures."""

# ruff: noqa: S310 - the URLs are our own

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ringmaster.net.free_ports import free_ports

START_S = 30.0


@dataclass
class EtcdMember:
    """One process. It may be killed and started again."""

    name: str
    url: str
    command: list[str]
    log: Path = Path(os.devnull)
    client: tuple[Path, Path] | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def post(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        """The gateway's reply. Raises `OSError`."""
        call = urllib.request.Request(self.url + path, json.dumps(request).encode())
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.client is not None:
            context.load_cert_chain(*self.client)
        with urllib.request.urlopen(call, timeout=5, context=context) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer


@dataclass
class EtcdCluster:
    """`tls`: the options that make the side which clients see speak TLS; `client`: our certificate and key."""

    directory: Path
    size: int = 1
    tls: list[str] = field(default_factory=list)
    client: tuple[Path, Path] | None = None
    members: list[EtcdMember] = field(default_factory=list)

    def start(self) -> None:
        """Returns once every member answers a linearizable read."""
        program = shutil.which("etcd")
        if program is None:
            pytest.skip("etcd is not installed (Debian package etcd-server)")
        ports = free_ports(2 * self.size)
        names = [f"m{number}" for number in range(self.size)]
        clients = [
            f"http{'s' if self.tls else ''}://127.0.0.1:{port}" for port in ports[: self.size]
        ]
        peers = [f"http://127.0.0.1:{port}" for port in ports[self.size :]]
        together = ",".join(f"{name}={peer}" for name, peer in zip(names, peers, strict=True))
        for name, client, peer in zip(names, clients, peers, strict=True):
            command = [program, "--name", name, "--data-dir", str(self.directory / name)]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--initial-cluster", together, *self.tls]
            self.members.append(
                EtcdMember(name, client, command, self.directory / f"{name}.log", self.client)
            )
        for member in self.members:
            member.start()
        for member in self.members:
            self.wait(lambda member=member: bool(member.post("/v3/kv/range", {"key": "YQ=="})))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until `condition` holds; an error counts as not yet."""
        until = time.monotonic() + START_S
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            assert time.monotonic() < until, f"etcd is not ready, see {self.directory}"
            time.sleep(0.05)

    def leader(self) -> EtcdMember:
        """The member that leads now."""
        for member in self.members:
            if member.process is not None:
                status = member.post("/v3/maintenance/status", {})
                if status["leader"] == status["header"]["member_id"]:
                    return member
        raise AssertionError("no leader")

    def stop(self) -> None:
        for member in self.members:
            member.kill()
