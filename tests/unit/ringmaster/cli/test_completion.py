"""What shells are told to complete: by the script that is printed, without a cluster and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ringmaster.cli.app import app
from ringmaster.cli.completion import VARIABLE, Shell

ASKS = {
    Shell.BASH: {"COMP_WORDS": "{line}", "COMP_CWORD": "{last}"},
    Shell.ZSH: {"_TYPER_COMPLETE_ARGS": "{line}"},
    Shell.FISH: {"_TYPER_COMPLETE_ARGS": "{line}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}
"""The variables by which each shell's script hands over the line."""


def script(shell: Shell) -> str:
    done = CliRunner().invoke(app, ["completion", shell.value])
    assert done.exit_code == 0
    return done.stdout


def words_for(shell: Shell, line: str) -> str:
    given = {
        name: text.format(line=line, last=len(line.split(" ")) - 1)
        for name, text in ASKS[shell].items()
    }
    return subprocess.run(
        [sys.executable, "-m", "ringmaster.cli"],
        env=os.environ | given | {VARIABLE: f"complete_{shell.value}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout


@pytest.mark.parametrize("shell", Shell)
def test_the_script_is_printed_and_asks_the_command(shell: Shell) -> None:
    text = script(shell)
    assert f"{VARIABLE}=complete_{shell.value}" in text
    assert [name for name in ASKS[shell] if name not in text] == []


@pytest.mark.parametrize("shell", Shell)
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("ringmaster stat", "status"),
        ("ringmaster snapshot ver", "verify"),
        ("ringmaster status --js", "--json"),
    ],
)
def test_commands_and_options_are_completed(shell: Shell, line: str, wanted: str) -> None:
    assert wanted in words_for(shell, line)


def test_no_other_shell_is_known() -> None:
    assert CliRunner().invoke(app, ["completion", "cmd"]).exit_code == 2


def test_bash_completes_with_it(tmp_path: Path) -> None:
    (tmp_path / "ringmaster").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m ringmaster.cli "$@"\n'
    )
    (tmp_path / "ringmaster").chmod(0o755)
    (tmp_path / "script").write_text(script(Shell.BASH))
    ask = (
        f"source {tmp_path}/script; COMP_WORDS=(ringmaster hot); COMP_CWORD=1; "
        '_ringmaster_completion ringmaster; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [shutil.which("bash") or "bash", "--norc", "-c", ask],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "hotkeys\n"
