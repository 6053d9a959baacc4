"""Processes of this machine: who is one of ours, and what its threads do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from ringmaster.cli.diagnose.bundle import Bundle
from ringmaster.cli.diagnose.processes import (
    NoStacks,
    _Asked,
    add_processes,
    processes_of,
    without_secrets,
)
from ringmaster.cli.diagnose.redaction import Redaction

WAITING = """
import sys, time
if sys.argv[1] == "offers":
    from ringmaster.runtime.stacks import offer_stacks
    offer_stacks()
def waits_here():
    print("ready", flush=True)
    sys.stdin.read()
waits_here()
"""


@contextmanager
def process(kind: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
        assert started.poll() is None, "it lives on"
        started.kill()


def test_one_that_offers_its_stacks_is_asked_again_and_again() -> None:
    with process("offers") as asked:
        for _ in range(2):
            with closing(_Asked(asked.pid)) as question:
                answer = question.answer(time.monotonic() + 10)
            assert answer.count(b"waits_here") == 1


def test_one_that_does_not_is_sent_no_signal() -> None:
    with process("does not") as other, pytest.raises(NoStacks, match="does not answer the signal"):
        _Asked(other.pid)


def test_one_that_is_gone_cannot_be_asked() -> None:
    with process("offers") as asked:
        pid = asked.pid
    with pytest.raises(NoStacks, match="cannot be asked"):
        _Asked(pid)


def test_a_command_line_is_shown_without_secrets() -> None:
    words = ["python", "-m", "aux", "--etcd-password", "x", "--token=y", "--port", "1", "--token"]
    assert without_secrets(words) == [
        "python", "-m", "aux", "--etcd-password", "[redacted]", "--token=[redacted]", "--port", "1", "--token",
    ]  # fmt: skip


def test_processes_are_told_by_their_data_dir(tmp_path: Path) -> None:
    # A file of that name in the folder stands for the service.
    (tmp_path / "aux.py").write_text("import sys; print('ready', flush=True); sys.stdin.read()")
    words = [sys.executable, "-m", "aux", "--id", "aux7", "--data-dir", "here"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    with (
        subprocess.Popen(
            words,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as started,
        ExitStack() as stack,
    ):
        stack.callback(started.kill)
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        assert [each.name for each in processes_of(tmp_path / "here")] == ["aux7"]
        assert processes_of(tmp_path) == []
        bundle = Bundle(Redaction([]))
        add_processes(bundle, tmp_path / "here")
        assert "processes/aux7/status.txt" in bundle.names
        assert bundle.missing[0]["what"] == "processes/aux7/stacks.txt"
