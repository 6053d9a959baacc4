"""`ringmaster up`: a local cluster, from the first process to the last."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console

from ringmaster.access.sender import read_token, token_headers
from ringmaster.access.token_file import read_tokens
from ringmaster.cli import nginx as front
from ringmaster.cli.audit_file import note_change
from ringmaster.cli.certificate import renew_certificate
from ringmaster.cli.control_socket import SOCKET_NAME, control_socket
from ringmaster.cli.folders import private_folder, run_folder, sole_use
from ringmaster.cli.local_cluster import (
    NGINX,
    LocalCluster,
    check_ports,
    check_services,
    check_settings,
)
from ringmaster.cli.memory_folder import SHARED_MEMORY, memory_folder
from ringmaster.cli.monitor import Monitor
from ringmaster.cli.retired import Retirement, note_stopped, take_stopped
from ringmaster.cli.scrape_targets import write_scrape_targets
from ringmaster.cli.stopping import announce_stop, withdraw_stop
from ringmaster.cli.streams import BestEffort
from ringmaster.cli.supervisor import Report, Supervisor
from ringmaster.config.lease_dir import record_lease_dir
from ringmaster.config.settings import UpSettings
from ringmaster.coordinator import Coordinator
from ringmaster.coordinator.engines import configured_coordinator
from ringmaster.errors import (
    CoordinatorError,
    CoordinatorUnavailable,
    RingmasterError,
    SettingsError,
)
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.stacks import offer_stacks

_FILES: Final = (
    *("tokens", "tls_cert", "tls_key"),
    *("link_ca", "link_cert", "link_key"),
    *("etcd_ca", "etcd_cert", "etcd_key"),
)
"""Settings that name files, which children find wherever they run."""


def up(settings: UpSettings) -> None:
    """Run a local cluster: nodes, masters, and nginx in front where it is installed. Ctrl-C stops all of it.

    What the processes print is in the data dir, in `logs`.
    """
    offer_stacks()
    check_services()
    token = _check_tokens(settings)
    with ExitStack() as stack:
        data_dir = private_folder(settings.data_dir)
        stack.enter_context(sole_use(data_dir))
        private_folder(data_dir / "logs")
        # A full disk under what is printed must not end the cluster.
        console = Console(file=BestEffort(1), highlight=False, soft_wrap=True)
        lease_dir = settings.lease_dir
        if lease_dir is None and settings.coordinator.startswith("sqlite"):
            lease_dir = stack.enter_context(memory_folder(data_dir))
            if lease_dir is None:
                console.print(
                    f"no room in {SHARED_MEMORY}: the leases are in {data_dir / 'leases'}, where a disk that stalls for "
                    "two seconds interrupts service"
                )
        resolved: dict[str, object] = {
            "data_dir": data_dir,
            "lease_dir": lease_dir or data_dir / "leases",
        }
        if settings.log_format == "auto":
            # The logs are files here, but people read them.
            resolved["log_format"] = "text"
        for name in _FILES:
            path: Path | None = getattr(settings, name)
            if path is not None:
                resolved[name] = path.absolute()
        settings = settings.model_copy(update=resolved)
        # Room for the longest name that `ringmaster scale` may need.
        names = [f"master{settings.masters}.sock", "aux256.sock", SOCKET_NAME]
        run_dir = stack.enter_context(run_folder(data_dir, names))
        if settings.tokens is not None and token is None:
            console.print(
                "there is no --token or --token-file (RINGMASTER_TOKEN, RINGMASTER_TOKEN_FILE) with the right read, "
                "so this shows the processes and not the cluster"
            )
        if settings.replicas > settings.aux:
            console.print(
                f"--replicas {settings.replicas} is more than there are nodes (--aux {settings.aux}): each partition "
                f"has {settings.aux} copies, and health is degraded, until more nodes join"
            )
        cluster = LocalCluster(settings, run_dir, front.find_nginx())
        check_settings(cluster)
        cluster = _with_front_door(cluster, console)
        check_ports(cluster)
        record_lease_dir(data_dir, settings.lease_path)
        write_scrape_targets(cluster)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            clean = runner.run(
                _run(cluster, Monitor(cluster.inner_url, console, token, cluster.url))
            )
    if not clean:
        raise SystemExit(1)


def _check_tokens(settings: UpSettings) -> str | None:
    """The token to look at the cluster with, if there is one. Raises `SettingsError` for it and for the tokens file."""
    if settings.tokens is not None:
        read_tokens(settings.tokens)
    token = settings.token or (read_token(settings.token_file) if settings.token_file else None)
    token_headers(token)
    return token


def _with_front_door(cluster: LocalCluster, console: Console) -> LocalCluster:
    """The same with nginx, or without if it was not wanted or cannot be used. Raises `SettingsError`."""
    wanted = cluster.settings.nginx
    if cluster.certificate is not None:
        wanted = "on"  # only nginx speaks TLS
    without = LocalCluster(cluster.settings, cluster.run_dir, None)
    if wanted == "off":
        return without
    if cluster.nginx is None:
        if wanted == "on":
            raise SettingsError(
                "nginx is not installed; install it, or leave --nginx on and --tls-cert away"
            )
        console.print("nginx is not installed: the masters share the port")
        return without
    cluster.write_nginx()
    problem = front.check_configuration(cluster.nginx, cluster.run_dir / NGINX)
    if not problem:
        return cluster
    if wanted == "on":
        raise SettingsError(f"nginx refuses its configuration: {problem}")
    console.print(f"nginx refuses its configuration, the masters share the port: {problem}")
    return without


async def _run(cluster: LocalCluster, monitor: Monitor) -> bool:
    """Start everything, wait for a signal, stop everything; False if something had to be killed.

    Raises `SettingsError` if a process refuses its settings at the start, and `RingmasterError` if all masters, all nodes or
    the front door are given up; everything is stopped then.
    """
    coordinator = configured_coordinator(cluster.settings)
    stop = _Stop()
    supervisor = Supervisor(cluster.programs(), monitor.report, stop.look)
    stop.attend(supervisor)
    running = _Running(cluster, supervisor, monitor.report)
    data_dir, run_dir = cluster.settings.data_dir, cluster.run_dir
    retirement = Retirement(
        cluster.inner_url, take_stopped(data_dir), lambda: running.cluster.nodes, monitor.report
    )
    try:
        try:
            await withdraw_stop(coordinator)
        except CoordinatorError as error:
            raise SettingsError(f"the coordinator cannot be used: {error}") from error
        async with control_socket(data_dir, run_dir, running.answer):
            supervisor.start()
            watching = asyncio.create_task(monitor.run(lambda: supervisor.children), name="monitor")
            # A fault in showing the cluster ends it in good order, and is raised at the end.
            watching.add_done_callback(lambda _: stop.request())
            renewing = asyncio.create_task(
                renew_certificate(running.cluster, supervisor, monitor.report)
            )
            retiring = asyncio.create_task(retirement.run(), name="retirement")
            await stop.requested.wait()
        monitor.stopping()
        await _cancelled(renewing)
        await _cancelled(retiring)
        await _stop_in_order(running.cluster, supervisor, coordinator, monitor)
        if not supervisor.killed:
            note_stopped(data_dir, [*running.cluster.nodes, *retirement.pending])
        await _cancelled(watching)
    finally:
        await supervisor.close()
        await coordinator.close()
    if stop.error is not None:
        raise stop.error
    monitor.report("stopped; not everything ended by itself" if supervisor.killed else "stopped")
    return not supervisor.killed


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _stop_in_order(
    cluster: LocalCluster, supervisor: Supervisor, coordinator: Coordinator, monitor: Monitor
) -> None:
    """The front door, so that no request is cut off; the nodes, while masters can still decide; the masters."""
    await supervisor.stop([NGINX])
    try:
        await announce_stop(coordinator, SystemClock())
    except CoordinatorUnavailable as error:
        monitor.report(f"the nodes cannot be told that all of the cluster stops: {error}")
    await supervisor.stop(cluster.nodes)
    await supervisor.stop(cluster.masters)


class _Running:
    """The cluster as it is scaled now, for `ringmaster scale`."""

    def __init__(self, cluster: LocalCluster, supervisor: Supervisor, report: Report) -> None:
        self.cluster = cluster
        self._supervisor = supervisor
        self._report = report
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, request: Mapping[str, Any], sender: str) -> Mapping[str, Any]:
        """`{"do": "show"}`, or `{"do": "scale", "aux": n}`: the nodes. Raises `SettingsError`, then nothing was done."""
        match request:
            case {"do": "show"}:
                pass
            case {"do": "scale", "aux": int(aux)} if aux >= 1:
                async with self._one_at_a_time:
                    await self._scale_noted(aux, sender)
            case _:
                raise SettingsError(f"this `ringmaster up` does not know the request {request}")
        return {"url": self.cluster.inner_url, "nodes": self.cluster.nodes}

    async def _scale_noted(self, aux: int, sender: str) -> None:
        """Scale, and leave a line of who wanted it and what came of it."""
        outcome = "failed"
        try:
            await self._scale(aux)
            outcome = "done"
        except SettingsError:
            outcome = "refused"
            raise
        finally:
            with suppress(OSError):
                line = note_change(
                    self.cluster.logs, change="scale", aux=aux, by=sender, outcome=outcome
                )
                self._report(line)

    async def _scale(self, aux: int) -> None:
        before, after = self.cluster, self.cluster.scaled(aux)
        check_ports(after, patience_s=0.0, running=before)
        added = [name for name in after.nodes if name not in before.nodes]
        removed = [name for name in before.nodes if name not in after.nodes]
        self.cluster = after
        write_scrape_targets(after)
        self._supervisor.add(after.node_programs(added))
        await self._supervisor.remove(removed)


class _Stop:
    """The first signal asks to stop, the second kills. `error`: why there is no use in going on without a signal."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.error: RingmasterError | None = None

    def attend(self, supervisor: Supervisor) -> None:
        """Listen to signals, and to `supervisor` once it says that one of its children is given up."""
        self._supervisor = supervisor
        # A node that is added later may refuse what it likes.
        self._first = supervisor.children
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)

    def request(self) -> None:
        self.requested.set()

    def look(self) -> None:
        """A process was given up: stop if it refuses its settings, or if it was the last of its kind."""
        if self.requested.is_set():
            return
        refused = next((child for child in self._first if child.is_refused), None)
        if refused is not None:
            self.error = SettingsError(refused.verdict)
        else:
            kinds: dict[str, list[str]] = {}
            for child in self._supervisor.children:
                kind = child.program.name.rstrip("0123456789")
                kinds.setdefault(kind, []).append(child.verdict)
            hopeless = next((each for each in kinds.values() if all(each)), None)
            if hopeless is None:
                return
            self.error = RingmasterError(hopeless[0])
        self.requested.set()

    def _on_signal(self) -> None:
        if self.requested.is_set():
            self._supervisor.kill()
        self.requested.set()
