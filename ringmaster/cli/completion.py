"""`ringmaster completion`: the script by which a shell completes the command's words. No word is looked up in a cluster."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated, Final

import typer
from typer.completion import (  # type: ignore[attr-defined]  # there, though not declared
    completion_init,
    get_completion_script,
)

PROGRAM: Final = "ringmaster"
VARIABLE: Final = "_RINGMASTER_COMPLETE"
"""What the script sets when it asks for words."""


class Shell(StrEnum):
    """The shells there are scripts for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to print it for.", show_default=False)],
) -> None:
    """Print the script that completes commands and options in a shell; docs/clients.md says where it goes."""
    typer.echo(get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value))


def prepare_completion() -> None:
    """If a script asks for words, have Typer know the shells; it learns them only with options that change start-up files."""
    if VARIABLE in os.environ:
        completion_init()
