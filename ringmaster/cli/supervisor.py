"""Child processes that are kept running: started, watched, restarted with back-off, ended without exception.

Each child leads a session of its own, so that Ctrl-C reaches only the supervisor, and is killed by the kernel if the
supervisor dies (`launch.py`). What it prints goes to a file.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

LAUNCHER: Final = Path(__file__).with_name("launch.py")
STEADY_S: Final = 10.0
"""A child that ran this long is restarted without delay, as if it had never failed."""
FIRST_DELAY_S: Final = 0.25
LONGEST_DELAY_S: Final = 10.0
QUICK_S: Final = 1.0
"""A child that ends within this, once it has got to work, failed at once."""
HOPELESS: Final = 5
"""After so many times in a row, each at once and in the same way, it is not started again."""
LOG_LIMIT_BYTES: Final = 16 * 2**20

_DIGITS = re.compile(r"\d+")

State = Literal["starting", "up", "waiting", "stopped", "given up"]
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `log`: the file for its output. `orphan_signal`: what the kernel sends it if the supervisor dies.

    `start_s`: how long it takes, on a slow day, to get to work. `refusal`: the exit code by which it says that its settings
    cannot be; its last line says why, after `speaker`.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    environment: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    orphan_signal: signal.Signals = signal.SIGKILL
    start_s: float = 0.0
    refusal: int | None = None
    speaker: str = ""


def next_delay(last_delay_s: float, uptime_s: float) -> float:
    """Seconds until a child that ended after `uptime_s` is started again; `last_delay_s`: what it was last time."""
    if uptime_s >= STEADY_S:
        return 0.0
    return min(max(last_delay_s * 2, FIRST_DELAY_S), LONGEST_DELAY_S)


class Child:
    """One program, kept running by `run` until `stop`, or until it is given up.

    `verdict`: why it was given up, empty if it was not; `is_refused`: because it refuses its settings.
    """

    def __init__(
        self, program: Program, report: Report, on_verdict: Callable[[], None] = lambda: None
    ) -> None:
        """`report` gets a sentence about each end and restart; `on_verdict` is called when it is given up."""
        self.program = program
        self.state: State = "starting"
        self.restarts = 0
        self.killed = False
        self.verdict = ""
        self.is_refused = False
        self._report = report
        self._on_verdict = on_verdict
        self._last_failure = ""
        self._alike = 0
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Child {self.program.name} {self.state} pid={self.pid}>"

    @property
    def pid(self) -> int | None:
        """The running process, if there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def run(self) -> None:
        """Start it, and again whenever it ends, until `stop`. If cancelled, the process is killed."""
        delay_s = 0.0
        loop = asyncio.get_running_loop()
        try:
            while not self._stopping.is_set():
                started = loop.time()
                code, last = await self._run_once()
                if self._stopping.is_set():
                    return
                uptime_s = loop.time() - started
                how = _how(code, last)
                if self._is_hopeless(code, last, how, uptime_s):
                    return
                delay_s = next_delay(delay_s, uptime_s)
                self.state = "waiting"
                self.restarts += 1
                self._report(f"{self.program.name} {how}; starting it again in {delay_s:g} s")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay_s)
        finally:
            self.kill()
            self.state = "given up" if self.verdict else "stopped"
            self._ended.set()

    async def stop(self) -> None:
        """End it with its stop signal, or after `stop_timeout_s` with SIGKILL; returns when `run` has ended."""
        self._stopping.set()
        self._signal(self.program.stop_signal)
        try:
            await asyncio.wait_for(self._ended.wait(), self.program.stop_timeout_s)
        except TimeoutError:
            self._report(f"{self.program.name} did not stop by itself and is killed")
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """SIGKILL it and the processes it started. Idempotent."""
        self._stopping.set()
        if self.pid is not None:
            self.killed = True
            self._signal(signal.SIGKILL, group=True)

    def _is_hopeless(self, code: int | None, last: str, how: str, uptime_s: float) -> bool:
        """Whether there is no use in starting it again; then it is given up."""
        name, program = self.program.name, self.program
        if code is not None and code == program.refusal and not self.restarts:
            self.is_refused = True
            said = last.removeprefix(program.speaker)
            self.verdict = f"{name} refuses its settings: {said or f'exit code {code}'}"
        else:
            # Times and process ids differ where all else is the same.
            failure = _DIGITS.sub("", how)
            quick = uptime_s <= program.start_s + QUICK_S
            alike = quick and failure == self._last_failure
            self._alike = self._alike + 1 if alike else int(quick)
            self._last_failure = failure
            if self._alike >= HOPELESS:
                self.verdict = f"{name} is given up: {HOPELESS} times in a row, at once, it {how}"
        if self.verdict:
            self._report(self.verdict)
            self._on_verdict()
        return bool(self.verdict)

    async def _run_once(self) -> tuple[int | None, str]:
        """Run it to its end; its exit code and its last word, or None and why it could not be started."""
        program = self.program
        with _open_log(program.log) as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *supervised(program.argv, program.orphan_signal),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(program.environment),
                    start_new_session=True,
                )
            except OSError as error:
                return None, f"cannot be started: {error}"
        self.state = "up"
        if self._stopping.is_set():
            self._signal(program.stop_signal)
        code = await self._process.wait()
        # Processes that it started and did not end (nginx's workers after a SIGKILL of nginx).
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # One that was killed from outside had no last word: its log ends with something else.
        return code, last_line(program.log) if code >= 0 else ""

    def _signal(self, number: signal.Signals, *, group: bool = False) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)


class Supervisor:
    """All children of one cluster, in the order they were given. `killed`: whether one had to be killed.

    `on_verdict` is called whenever one of them is given up.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        report: Report,
        on_verdict: Callable[[], None] = lambda: None,
    ) -> None:
        self.children = tuple(Child(program, report, on_verdict) for program in programs)
        self._report = report
        self._on_verdict = on_verdict
        self._tasks: list[asyncio.Task[None]] = []
        self._killed = False

    @property
    def killed(self) -> bool:
        """Whether any of them, one that was removed included, did not end by itself."""
        return self._killed or any(child.killed for child in self.children)

    def start(self) -> None:
        """Start all of them."""
        self._tasks = [self._run(child) for child in self.children]

    def add(self, programs: Sequence[Program]) -> None:
        """Start these as well."""
        added = tuple(Child(program, self._report, self._on_verdict) for program in programs)
        self.children += added
        self._tasks += [self._run(child) for child in added]

    async def remove(self, names: Sequence[str]) -> None:
        """Stop these and know of them no more."""
        await self.stop(names)
        gone = [child for child in self.children if child.program.name in names]
        self._killed = self._killed or any(child.killed for child in gone)
        self.children = tuple(child for child in self.children if child not in gone)

    async def stop(self, names: Sequence[str]) -> None:
        """Stop these at the same time, and wait for the last."""
        chosen = [child for child in self.children if child.program.name in names]
        await asyncio.gather(*(child.stop() for child in chosen))

    def _run(self, child: Child) -> asyncio.Task[None]:
        return asyncio.create_task(child.run(), name=f"child {child.program.name}")

    def kill(self) -> None:
        """SIGKILL all of them."""
        for child in self.children:
            child.kill()

    async def close(self) -> None:
        """Kill what still runs and wait for it. A fault of the supervisor itself is raised here."""
        self.kill()
        await asyncio.gather(*self._tasks)


def supervised(argv: Sequence[str], orphan_signal: signal.Signals) -> tuple[str, ...]:
    """The command line that runs `argv` (an absolute path first) as long as this process lives."""
    # -I and -S: nothing of the environment or of installed packages is read, and it starts in a few milliseconds.
    launcher = (sys.executable, "-I", "-S", str(LAUNCHER))
    return (*launcher, str(int(orphan_signal)), str(os.getpid()), *argv)


def _how(code: int | None, last: str) -> str:
    """How a run ended, for people. `code` None: it could not be started, as `last` says."""
    if code is None:
        return last
    return f"{ended_how(code)}{f' ({last})' if last else ''}"


def ended_how(code: int) -> str:
    """A process's exit code, for people."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def last_line(log: Path, longest: int = 300) -> str:
    """The last line of a log that is not empty, cut to `longest` characters; empty if there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 16_384))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:longest] for line in reversed(lines) if line.strip()), "")


def _open_log(path: Path) -> _Log:
    """The file to append to; one that has grown too large is begun anew, the old one kept beside it once."""
    with suppress(OSError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".old"))
    return _Log(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))


class _Log:
    """A descriptor for a child's output, closed here once the child has it."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
