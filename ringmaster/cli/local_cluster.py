"""What `ringmaster up` runs: programs, ports, sockets and folders, computed from its settings."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ringmaster.cli import nginx as front
from ringmaster.cli.exit_codes import USAGE
from ringmaster.cli.folders import private_folder
from ringmaster.cli.options import as_flags
from ringmaster.cli.supervisor import Program
from ringmaster.config.cluster_settings import ClusterSettings
from ringmaster.config.serving_settings import ServingSettings
from ringmaster.config.settings import (
    AuxSettings,
    MasterSettings,
    NodeSettings,
    UpSettings,
    advertised_address,
    load_settings,
)
from ringmaster.config.sources import SOURCES_VARIABLE, sources_text
from ringmaster.errors import SettingsError
from ringmaster.net.tls import MutualTls

LOOPBACK: Final = "127.0.0.1"
NGINX: Final = "nginx"
_OF_ONE_PROCESS: Final = frozenset(
    "RINGMASTER_" + name
    for name in [
        "ID",
        "HOST",
        "PORT",
        "HTTP_PORT",
        "UNIX",
        "UNIX_DIR",
        "SHARED_LISTEN",
        "TLS_LISTEN",
        "ADVERTISE",
        "CONFIG",
        "TOKEN",
        "TOKEN_FILE",
    ]
)
_START_S: Final = 2.0
"""What the interpreter and our modules take on a machine with other things to do."""

_STOP_S: Final = 60.0
"""How long a node may take to write its last snapshot."""


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """The parts of a local cluster, ready to be started. `nginx`: its path, or None if the masters share the port."""

    settings: UpSettings
    run_dir: Path
    nginx: str | None

    @property
    def url(self) -> str:
        """The front door, as someone on this machine reaches it."""
        host = self.settings.host
        host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://{advertised_address(host, self.settings.port)}"

    @property
    def inner_url(self) -> str:
        """Where this very process and those that talk to it reach the cluster: past a certificate, for other names maybe."""
        return (
            self.url
            if self.certificate is None
            else f"http://{LOOPBACK}:{self.settings.master_port}"
        )

    @property
    def certificate(self) -> front.Certificate | None:
        """Of the front door."""
        chain, key = self.settings.tls_cert, self.settings.tls_key
        return None if chain is None or key is None else front.Certificate(chain, key)

    @property
    def masters(self) -> list[str]:
        """The masters' ids."""
        return [f"master{number}" for number in range(1, self.settings.masters + 1)]

    @property
    def nodes(self) -> list[str]:
        """The nodes' ids."""
        return [f"aux{number}" for number in range(1, self.settings.aux + 1)]

    @property
    def logs(self) -> Path:
        """The folder of what the processes print."""
        return self.settings.data_dir / "logs"

    def socket(self, name: str) -> Path:
        """The unix socket of a process."""
        return self.run_dir / f"{name}.sock"

    def ports(self) -> Iterator[tuple[str, int, str, str]]:
        """(host, port, whose it is, the flag that moves it) for every TCP port."""
        settings = self.settings
        yield settings.host, settings.port, "the front door", "--port"
        for index, name in enumerate(self.masters):
            yield LOOPBACK, settings.master_port + index, name, "--master-port"
        for index, name in enumerate(self.nodes):
            yield LOOPBACK, settings.aux_port + index, name, "--aux-port"
            yield (
                LOOPBACK,
                settings.aux_http_port + index,
                f"{name}'s health and metrics",
                "--aux-http-port",
            )

    def programs(self) -> list[Program]:
        """Masters, nodes, then nginx; the configuration of nginx is not written here."""
        programs = [self._master(index, name) for index, name in enumerate(self.masters)]
        programs += self.node_programs(self.nodes)
        if self.nginx is not None:
            programs.append(self.front_door(self.nginx))
        return programs

    def scaled(self, aux: int) -> LocalCluster:
        """The same with so many nodes."""
        return replace(self, settings=self.settings.model_copy(update={"aux": aux}))

    def node_programs(self, names: Sequence[str]) -> list[Program]:
        """Those of the nodes called so."""
        return [self._node(index, name) for index, name in enumerate(self.nodes) if name in names]

    def front_door(self, nginx: str) -> Program:
        """Nginx. SIGQUIT lets it finish what it is doing."""
        return Program(
            name=NGINX,
            argv=front.command(nginx, self.run_dir / NGINX),
            log=self.logs / "nginx.log",
            environment=os.environ,
            stop_signal=signal.SIGQUIT,
            stop_timeout_s=front.SHUTDOWN_TIMEOUT_S + 8.0,
            # It ends its workers then; after a SIGKILL they would stay.
            orphan_signal=signal.SIGTERM,
        )

    def write_nginx(self) -> None:
        """Write the configuration of nginx. Raises `SettingsError`."""
        settings = self.settings
        front.write_configuration(
            self.run_dir / NGINX,
            listen=advertised_literal(settings.host, settings.port),
            masters=[f"unix:{self.socket(name)}" for name in self.masters],
            max_value_bytes=settings.max_value,
            deadline_s=settings.deadline,
            workers=front_door_workers(),
            certificate=self.certificate,
        )

    def _master(self, index: int, name: str) -> Program:
        settings = self.settings
        port = settings.master_port + index
        own = ["--port", str(port), "--unix", str(self.socket(name))]
        if self.nginx is None:
            own += ["--shared-listen", advertised_literal(settings.host, settings.port)]
        else:
            own += ["--front", "nginx"]
        return self._service("master", name, port, own, ServingSettings, stop_timeout_s=10.0)

    def _node(self, index: int, name: str) -> Program:
        settings = self.settings
        port = settings.aux_port + index
        own = ["--port", str(port), "--http-port", str(settings.aux_http_port + index)]
        own += ["--unix-dir", str(self.run_dir)]
        return self._service("aux", name, port, own, NodeSettings, stop_timeout_s=_STOP_S)

    def _service(
        self,
        module: str,
        name: str,
        port: int,
        own: list[str],
        kind: type[ClusterSettings],
        stop_timeout_s: float,
    ) -> Program:
        settings = self.settings
        # Others can see a command line.
        secret = {"etcd_password"}
        given = as_flags(settings, [name for name in kind.model_fields if name not in secret])
        environment = _environment(os.environ)
        environment[SOURCES_VARIABLE] = sources_text(settings)
        if settings.etcd_password:
            environment["RINGMASTER_ETCD_PASSWORD"] = settings.etcd_password
        address = ["--id", name, "--host", LOOPBACK, "--advertise", f"{LOOPBACK}:{port}"]
        return Program(
            name=name,
            # -P: a file in the current folder must not stand in for a module of ours.
            argv=(sys.executable, "-P", "-m", module, *given, *address, *own),
            log=self.logs / f"{name}.log",
            environment=environment,
            stop_timeout_s=stop_timeout_s,
            start_s=_START_S,
            refusal=USAGE,
            speaker=f"ringmaster {module}: ",
        )


def check_services() -> None:
    """Raises `SettingsError` if the two services are not there: the wheel holds the library and the command only."""
    for module in ("master", "aux"):
        if importlib.util.find_spec(module) is None:
            raise SettingsError(
                f"the service {module!r} is not installed here; run `make up` in a checkout of Ringmaster"
            )


def check_settings(cluster: LocalCluster) -> None:
    """Raises `SettingsError` for what a master or a node would refuse when it starts: their own tables of the settings file
    and their variables among it, certificates that cannot be used, and folders that cannot be written.
    """
    settings = cluster.settings
    address = f"{LOOPBACK}:1"
    of_masters: dict[str, object] = {"unix": "/", "shared_listen": address}
    of_nodes: dict[str, object] = {"unix_dir": "/", "http_port": 1}
    for kind, common, name, own in (
        (MasterSettings, ServingSettings, cluster.masters[0], of_masters),
        (AuxSettings, NodeSettings, cluster.nodes[0], of_nodes),
    ):
        shared = {field: getattr(settings, field) for field in common.model_fields}
        # These are chosen for each; their variables, if set, are meant for something else.
        chosen = {"id": name, "host": LOOPBACK, "port": 1, "advertise": address}
        try:
            load_settings(kind, **shared, **chosen, **own)
        except SettingsError as error:
            raise SettingsError(f"{name} would refuse its settings: {error}") from error
    if settings.link_files is not None:
        MutualTls(*settings.link_files)
    private_folder(settings.snapshot_path, "--snapshot-dir")
    private_folder(settings.lease_path, "--lease-dir")


def check_ports(
    cluster: LocalCluster, patience_s: float = 1.5, running: LocalCluster | None = None
) -> None:
    """Raises `SettingsError` naming the port and the flag if one is taken, by another process or twice by us.

    Those of a cluster that is `running` are ours. Waits up to `patience_s` for ports that a cluster which was just killed gives back.
    """
    wanted: dict[int, str] = {}
    deadline = time.monotonic() + patience_s
    ours = set() if running is None else {port for _, port, _, _ in running.ports()}
    for host, port, whose, flag in cluster.ports():
        if port > 65535:
            raise SettingsError(
                f"port {port} for {whose} does not exist; choose a lower one with {flag}"
            )
        if port in wanted:
            raise SettingsError(
                f"port {port} is wanted for {wanted[port]} and for {whose}; choose others with {flag}"
            )
        wanted[port] = whose
        if port in ours:
            continue
        while (problem := bind_problem(host, port)) and problem.errno == errno.EADDRINUSE:
            if time.monotonic() >= deadline:
                raise SettingsError(
                    f"port {port} for {whose} is in use by another process; choose others with {flag}"
                )
            time.sleep(0.05)
        if problem:
            raise SettingsError(
                f"cannot listen on {host}:{port} for {whose}: {problem.strerror}; change it with {flag}"
            )


def advertised_literal(host: str, port: int) -> str:
    """`host:port` or `[v6]:port`, a wildcard kept as it is."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def front_door_workers() -> int:
    """Nginx's processes: half of the cores, since the masters and nodes need the rest."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


def bind_problem(host: str, port: int) -> OSError | None:
    """Why nobody can listen there now; None if one can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what is meant for `ringmaster up` itself."""
    return {name: value for name, value in environment.items() if name not in _OF_ONE_PROCESS}
