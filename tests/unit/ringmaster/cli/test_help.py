"""What `--help` says is for whoever reads it first: nothing cut short, nothing without a word, nothing of the insides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from aux.app import run as run_aux
from master.app import run as run_master
from ringmaster.cli.app import app
from ringmaster.cli.options import settings_command
from ringmaster.config.settings import AuxSettings, MasterSettings


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Typer has classes of its own for what Click calls a group."""
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


# `master` and `aux` hand everything on to a process of their own.
ALL = [path for path in commands(get_command(app)) if path not in {("master",), ("aux",)}]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_the_help_of_a_command_is_whole(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    text = done.output
    assert "..." not in text.partition("Commands:")[2], (
        "a line of the list of commands is cut short"
    )
    assert "list[" not in text.partition("Options:")[2], "a type of Python says nothing"
    assert re.search(r"Raises|Settings\b|\bself\b|Args:", text) is None


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    command: Any = get_command(app)
    for name in path:
        command = command.commands[name]
    for option in command.params:
        words = (getattr(option, "help", None) or "").split()
        assert len(words) >= 3, option.name


@pytest.mark.parametrize(("kind", "run"), [(AuxSettings, run_aux), (MasterSettings, run_master)])
def test_the_help_of_a_service_is_for_its_operator(kind: type, run: object) -> None:
    text = settings_command(kind, run).__doc__  # type: ignore[type-var, arg-type]
    assert text
    assert "Raises" not in text
    assert re.search(r"`[A-Z]\w+", text) is None
