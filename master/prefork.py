"""Several masters from one command: processes that share a port (SO_REUSEPORT) and a unix socket.

Each has an id of its own and knows nothing of the others. If one ends by itself, all end, so that their supervisor
notices.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from ringmaster.config.settings import MasterSettings
from ringmaster.errors import RingmasterError, SettingsError

_PR_SET_PDEATHSIG = 1
_BACKLOG = 4096

_log = structlog.get_logger(__name__)

Serve = Callable[[MasterSettings, socket.socket | None], None]


def run_workers(settings: MasterSettings, serve: Serve) -> None:
    """Fork `settings.workers` processes that `serve`; returns in each of them, and in the parent when all have ended.

    Raises `RingmasterError` in the parent if one ended by itself.
    """
    if settings.port == 0:
        raise SettingsError("--workers needs a --port: with 0 each would get another one")
    unix = None if settings.unix is None else _bind(settings.unix)
    parent = os.getpid()
    workers: dict[int, str] = {}
    for number in range(1, settings.workers + 1):
        name = f"{settings.name}.{number}"
        child = os.fork()
        if child == 0:
            _die_with(parent)
            serve(settings.model_copy(update={"id": name}), unix)
            return
        workers[child] = name
    try:
        _watch(workers, reload=settings.tokens is not None)
    finally:
        if settings.unix is not None:
            settings.unix.unlink(missing_ok=True)


def _watch(workers: dict[int, str], *, reload: bool) -> None:
    """Until all workers have ended: pass signals on, SIGHUP with `reload`, and stop all if one ends by itself."""
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in workers:
            os.kill(pid, signal.SIGTERM)

    def pass_on(number: int, _frame: object) -> None:
        for pid in workers:
            os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if reload:
        signal.signal(signal.SIGHUP, pass_on)
    failed = ""
    while workers:
        pid, status = os.wait()
        name = workers.pop(pid, "")
        code = os.waitstatus_to_exitcode(status)
        if name and not stopping:
            failed = f"worker {name} ended with {code}"
            _log.error("a worker ended", worker=name, code=code)
            stop(0, None)
    if failed:
        raise RingmasterError(failed)


def _die_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent dies (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def _bind(path: Path) -> socket.socket:
    clear_socket_path(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listening.bind(str(path))
        listening.listen(_BACKLOG)
    except OSError as error:
        raise SettingsError(f"cannot listen on unix:{path}: {error}") from error
    return listening


def clear_socket_path(path: Path) -> None:
    """Make the folder of `path`, and remove a socket left by a dead process. Raises `SettingsError` if a live one listens."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise SettingsError(f"another process listens on unix:{path}")
