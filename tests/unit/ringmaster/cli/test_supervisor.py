"""Child processes: kept running, restarted with back-off, ended with all they started, never orphaned."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ringmaster.cli import supervisor as supervisor_module
from ringmaster.cli.supervisor import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    STEADY_S,
    Child,
    Program,
    Supervisor,
    ended_how,
    last_line,
    next_delay,
)
from tests.e2e.waiting import until, wait_until

PYTHON = sys.executable


def program(
    folder: Path, code: str, *, name: str = "dummy", stop_timeout_s: float = 10.0
) -> Program:
    return Program(
        name=name,
        argv=(PYTHON, "-I", "-S", "-u", "-c", code),
        log=folder / f"{name}.log",
        environment=os.environ,
        stop_timeout_s=stop_timeout_s,
    )


SLEEP = "import time; print('up'); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(600)"


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def printed(child: Child, text: str) -> bool:
    return child.program.log.exists() and text in child.program.log.read_text()


class Running:
    """A supervisor that is closed whatever happens."""

    def __init__(self, *programs: Program) -> None:
        self.said: list[str] = []
        self.verdicts = 0
        self.supervisor = Supervisor(programs, self.said.append, self.count)

    def count(self) -> None:
        self.verdicts += 1

    async def __aenter__(self) -> Supervisor:
        self.supervisor.start()
        return self.supervisor

    async def __aexit__(self, *_: object) -> None:
        await self.supervisor.close()


def test_the_delay_doubles_up_to_a_limit_and_starts_anew_after_a_steady_run() -> None:
    delays = [next_delay(0.0, 0.0)]
    for _ in range(7):
        delays.append(next_delay(delays[-1], 1.0))
    assert delays == [FIRST_DELAY_S, 0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_DELAY_S, LONGEST_DELAY_S]
    assert next_delay(LONGEST_DELAY_S, STEADY_S) == 0.0


async def test_a_child_that_ends_is_started_again_and_it_is_said_why(tmp_path: Path) -> None:
    running = Running(program(tmp_path, "print('broken: no disk'); raise SystemExit(3)"))
    async with running as supervisor:
        (child,) = supervisor.children
        await until(lambda: child.restarts >= 2, "two restarts")
    assert running.said[0] == (
        "dummy ended with exit code 3 (broken: no disk); starting it again in 0.25 s"
    )
    assert running.said[1].endswith("starting it again in 0.5 s")


async def test_a_child_that_refuses_its_settings_is_given_up_at_once(tmp_path: Path) -> None:
    code = "print('ringmaster aux: --x: no'); raise SystemExit(2)"
    refusing = replace(program(tmp_path, code), refusal=2, speaker="ringmaster aux: ")
    running = Running(refusing)
    async with running as supervisor:
        (child,) = supervisor.children
        await until(lambda: child.state == "given up", "given up")
        assert (child.verdict, child.is_refused) == ("dummy refuses its settings: --x: no", True)
        await asyncio.wait_for(supervisor.stop(["dummy"]), 5)
    assert running.said == ["dummy refuses its settings: --x: no"]
    assert running.verdicts == 1


async def test_the_same_exit_code_later_is_a_failure_like_any_other(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    code = (
        f"import pathlib; flag = pathlib.Path({str(flag)!r}); code = 2 if flag.exists() else 1\n"
        "flag.touch(); raise SystemExit(code)"
    )
    async with Running(replace(program(tmp_path, code), refusal=2)) as supervisor:
        (child,) = supervisor.children
        await until(lambda: child.restarts >= 3, "three restarts")
        assert not child.is_refused


async def test_a_child_that_fails_alike_at_once_five_times_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_DELAY_S", 0.01)
    # Even on a machine that takes long to start a process.
    monkeypatch.setattr(supervisor_module, "QUICK_S", 60.0)
    code = "import os; print('no disk for', os.getpid()); raise SystemExit(3)"
    running = Running(program(tmp_path, code))
    async with running as supervisor:
        (child,) = supervisor.children
        await until(lambda: child.state == "given up", "given up")
        assert child.restarts == 4
        assert not child.is_refused
    assert running.said[-1].startswith(
        "dummy is given up: 5 times in a row, at once, it ended with exit code 3 (no disk for"
    )
    assert running.verdicts == 1


@pytest.mark.parametrize(
    "code",
    [
        # Another way each time.
        "print('x' * len(seen)); raise SystemExit(3)",
        # Not at once.
        "import time; time.sleep(0.3); raise SystemExit(3)",
    ],
)
async def test_other_failures_are_tried_again_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(supervisor_module, "LONGEST_DELAY_S", 0.01)
    monkeypatch.setattr(supervisor_module, "QUICK_S", 0.3 if "time" in code else 10.0)
    file = str(tmp_path / "seen")
    before = f"file = open({file!r}, 'a+'); file.write('x'); file.seek(0); seen = file.read()\n"
    async with Running(program(tmp_path, before + code)) as supervisor:
        (child,) = supervisor.children
        await until(lambda: child.restarts >= 7, "seven restarts")
        assert child.verdict == ""


async def test_a_killed_child_comes_back_with_another_pid(tmp_path: Path) -> None:
    running = Running(program(tmp_path, SLEEP))
    async with running as supervisor:
        (child,) = supervisor.children
        await until(lambda: printed(child, "up"), "started")
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.pid not in (None, first), "restarted")
        assert "was ended by SIGKILL" in running.said[0]


async def test_stop_ends_a_child_in_good_order(tmp_path: Path) -> None:
    running = Running(program(tmp_path, SLEEP))
    async with running as supervisor:
        (child,) = supervisor.children
        await until(lambda: printed(child, "up"), "started")
        pid = child.pid
        await supervisor.stop(["dummy"])
        assert child.state == "stopped"
        assert not child.killed
    assert pid is not None
    assert not is_alive(pid)
    assert running.said == []


async def test_only_the_named_children_stop(tmp_path: Path) -> None:
    running = Running(program(tmp_path, SLEEP, name="a"), program(tmp_path, SLEEP, name="b"))
    async with running as supervisor:
        a, b = supervisor.children
        await until(lambda: printed(a, "up") and printed(b, "up"), "started")
        await supervisor.stop(["a"])
        assert (a.state, b.state) == ("stopped", "up")


async def test_a_child_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    running = Running(program(tmp_path, STUBBORN, stop_timeout_s=0.2))
    async with running as supervisor:
        (child,) = supervisor.children
        await until(lambda: printed(child, "up"), "started")
        await supervisor.stop(["dummy"])
        assert child.killed
    assert running.said == ["dummy did not stop by itself and is killed"]


async def test_stop_while_waiting_to_restart_starts_nothing(tmp_path: Path) -> None:
    running = Running(program(tmp_path, "raise SystemExit(1)"))
    async with running as supervisor:
        (child,) = supervisor.children
        await until(lambda: child.state == "waiting", "ended")
        await asyncio.wait_for(supervisor.stop(["dummy"]), 5)
        assert child.state == "stopped"


async def test_a_program_that_does_not_exist_is_said_and_tried_again(tmp_path: Path) -> None:
    missing = Program("dummy", ("/no/such/program",), tmp_path / "log", os.environ)
    running = Running(missing)
    async with running as supervisor:
        await until(lambda: supervisor.children[0].restarts, "an attempt")
    assert "No such file" in running.said[0]


async def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([{PYTHON!r}, '-I', '-S', '-c', 'import time; time.sleep(600)'])\n"
        "print('grandchild', child.pid)\ntime.sleep(600)"
    )
    running = Running(program(tmp_path, code))
    async with running as supervisor:
        (child,) = supervisor.children
        await until(lambda: printed(child, "grandchild"), "started")
        grandchild = int(child.program.log.read_text().split()[1])
        await supervisor.stop(["dummy"])
    await until(lambda: not is_alive(grandchild), "grandchild ended")


async def test_children_lead_sessions_of_their_own(tmp_path: Path) -> None:
    running = Running(program(tmp_path, SLEEP))
    async with running as supervisor:
        (child,) = supervisor.children
        await until(lambda: printed(child, "up"), "started")
        assert child.pid is not None
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from ringmaster.cli.supervisor import Program, Supervisor\n"
        "async def main():\n"
        f"    argv = ({PYTHON!r}, '-I', '-S', '-u', '-c', {STUBBORN!r})\n"
        f"    program = Program('dummy', argv, pathlib.Path({str(tmp_path)!r}) / 'log', os.environ)\n"
        "    supervisor = Supervisor([program], print)\n"
        "    supervisor.start()\n"
        "    while supervisor.children[0].pid is None: await asyncio.sleep(0.01)\n"
        "    print(supervisor.children[0].pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        wait_until(
            lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text(), "child is up"
        )
        process.kill()
        wait_until(lambda: not is_alive(pid), "child died")


def test_how_a_process_ended_reads_well() -> None:
    assert ended_how(0) == "ended with exit code 0"
    assert ended_how(-9) == "was ended by SIGKILL"
    assert ended_how(-200) == "was ended by signal 200"


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_text("a\n" * 20_000 + "the end\n\n  \n")
    assert last_line(log) == "the end"
    log.write_text("x" * 1000)
    assert last_line(log) == "x" * 300


@pytest.mark.parametrize("size", [0, 17 * 2**20])
async def test_a_log_that_has_grown_too_large_is_put_aside(tmp_path: Path, size: int) -> None:
    what = program(tmp_path, SLEEP)
    with what.log.open("wb") as file:
        file.truncate(size)
    async with Running(what) as supervisor:
        await until(lambda: printed(supervisor.children[0], "up"), "started")
    assert what.log.stat().st_size < 100
    assert (tmp_path / "dummy.old").exists() == (size > 0)
    assert what.log.stat().st_mode & 0o077 == 0 or size == 0
