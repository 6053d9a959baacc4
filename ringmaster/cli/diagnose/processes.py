"""The processes of a cluster that run on this machine, as the system knows them, and what their threads do just now.

Only those of the same user can be asked (of root, all). A signal is sent to a process only if it says that it catches it: one of an
older version would be ended by it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from ringmaster.cli.diagnose.bundle import Bundle
from ringmaster.runtime.stacks import STACKS_NAME, STACKS_SIGNAL

ANSWER_S: Final = 2.0
_QUIET_S: Final = 0.1
_POLL_S: Final = 0.02
_PROC: Final = Path("/proc")
_SECRET_FLAGS: Final = ("--etcd-password", "--token")
_KINDS: Final = ("master", "aux")
_MOST: Final = 256


@dataclass(frozen=True, slots=True)
class LocalProcess:
    """One of ours. `name`: its id."""

    pid: int
    name: str


class NoStacks(Exception):
    """Why a process's stacks cannot be had, a sentence."""


def processes_of(data_dir: Path) -> list[LocalProcess]:
    """Masters and nodes whose command line names this data dir, and the `ringmaster up` that holds it."""
    found = [
        LocalProcess(pid, _option(words, "--id") or f"{kind}-{pid}")
        for pid in _pids()
        for words in [_words(pid)]
        for kind in [_kind(words)]
        if kind and _is_of(pid, words, data_dir)
    ]
    with suppress(OSError, ValueError):
        up = int((data_dir / "up.lock").read_text())
        if any("up" in word for word in _words(up)):
            found.append(LocalProcess(up, "up"))
    return sorted(found, key=lambda process: process.name)[:_MOST]


def add_processes(bundle: Bundle, data_dir: Path) -> None:
    """What the system says of each of them, and their stacks, within `ANSWER_S` for all of them."""
    processes = processes_of(data_dir)
    if not processes:
        bundle.lack("processes", f"no process of ours on this machine has the data dir {data_dir}")
    asked: dict[LocalProcess, _Asked] = {}
    for process in processes:
        folder = f"processes/{process.name}"
        words = " ".join(without_secrets(_words(process.pid)))
        bundle.add(f"{folder}/command.txt", words.encode(), "its command line, without secrets")
        for name in ("status", "limits"):
            try:
                content = (_PROC / str(process.pid) / name).read_bytes()
                bundle.add(f"{folder}/{name}.txt", content, f"/proc/{process.pid}/{name}")
            except OSError as error:
                bundle.lack(f"{folder}/{name}.txt", str(error.strerror))
        try:
            asked[process] = _Asked(process.pid)
        except NoStacks as error:
            bundle.lack(f"{folder}/stacks.txt", str(error))
    deadline = time.monotonic() + ANSWER_S
    for process, each in asked.items():
        name = f"processes/{process.name}/stacks.txt"
        with closing(each):
            try:
                bundle.add(name, each.answer(deadline), "what its threads do")
            except NoStacks as error:
                bundle.lack(name, str(error))


class _Asked:
    """A process that was sent the signal. Raises `NoStacks` if that cannot be."""

    def __init__(self, pid: int) -> None:
        try:
            state, caught = _state(pid)
            if state in "Tt":
                raise NoStacks("the process is stopped (SIGSTOP, or a debugger)")
            if not caught >> (STACKS_SIGNAL - 1) & 1:
                raise NoStacks("it does not answer the signal: it is of another version, or starts")
            handle = os.pidfd_open(pid)
            try:
                self._file = _stacks_file(pid)
                self._before = os.fstat(self._file).st_size
                signal.pidfd_send_signal(handle, STACKS_SIGNAL)
            finally:
                os.close(handle)
        except OSError as error:
            raise NoStacks(f"it cannot be asked: {error.strerror}") from error

    def answer(self, deadline: float) -> bytes:
        """What it wrote. Raises `NoStacks` if that is nothing by the deadline."""
        size, since = self._before, time.monotonic()
        while time.monotonic() - since < _QUIET_S or size == self._before:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
            now = os.fstat(self._file).st_size
            if now != size:
                size, since = now, time.monotonic()
        if size == self._before:
            raise NoStacks(f"it did not answer within {ANSWER_S:g} s")
        return os.pread(self._file, size - self._before, self._before)

    def close(self) -> None:
        """Let go of its file, and empty it."""
        with suppress(OSError):
            os.ftruncate(self._file, 0)
        os.close(self._file)


def without_secrets(words: list[str]) -> list[str]:
    """A command line whose secrets are left out."""
    shown: list[str] = []
    hide = False
    for word in words:
        flag, equals, _ = word.partition("=")
        if hide:
            shown.append("[redacted]")
        else:
            shown.append(f"{flag}=[redacted]" if equals and flag in _SECRET_FLAGS else word)
        hide = not hide and word in _SECRET_FLAGS
    return shown


def _pids() -> Iterator[int]:
    with suppress(OSError):
        yield from (int(each.name) for each in _PROC.iterdir() if each.name.isdecimal())


def _words(pid: int) -> list[str]:
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(each) for each in raw.split(b"\0")[:-1]]


def _kind(words: list[str]) -> str:
    for module, name in pairwise(words):
        if module == "-m" and name in _KINDS:
            return name
    return ""


def _option(words: list[str], flag: str) -> str:
    for index, word in enumerate(words):
        if word == flag:
            return words[index + 1] if index + 1 < len(words) else ""
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return ""


def _is_of(pid: int, words: list[str], data_dir: Path) -> bool:
    stated = _option(words, "--data-dir") or _variable(pid, "RINGMASTER_DATA_DIR") or "data"
    try:
        return Path(os.readlink(_PROC / str(pid) / "cwd"), stated).resolve() == data_dir.resolve()
    except OSError:
        return False


def _variable(pid: int, name: str) -> str:
    """Of its environment, this one alone: others may be secrets."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return ""
    rows = (each.partition(b"=") for each in raw.split(b"\0"))
    return next((os.fsdecode(value) for key, _, value in rows if key == name.encode()), "")


def _state(pid: int) -> tuple[str, int]:
    """(its state, a letter; the signals it catches, as a mask). Raises `OSError`."""
    rows = {}
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        rows[name] = value.strip()
    return rows.get("State", "?")[:1], int(rows.get("SigCgt", "0"), 16)


def _stacks_file(pid: int) -> int:
    """A descriptor of the file that it writes its stacks to. Raises `OSError`, or `NoStacks` if it has none."""
    folder = _PROC / str(pid) / "fd"
    for each in folder.iterdir():
        with suppress(OSError):
            if f"memfd:{STACKS_NAME}" in os.readlink(each):
                return os.open(each, os.O_RDWR | os.O_CLOEXEC)
    raise NoStacks("it has no file for them: it is of another version")
