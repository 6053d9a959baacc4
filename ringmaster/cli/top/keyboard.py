"""Single keys from a terminal, which is given back as it was."""

from __future__ import annotations

import os
import re
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_OFF: Final = b"\0"
"""_POSIX_VDISABLE (termios(3))."""

_SEQUENCES: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
"""What arrows, function keys and keys with Alt send (ECMA-48 §5.4; xterm's ctlseqs)."""

_LOCAL, _CHARACTERS = 3, 6
"""Places in what `tcgetattr` returns."""


@contextmanager
def single_keys(descriptor: int) -> Iterator[None]:
    """Keys come one by one, unseen, and Ctrl-C still interrupts. Ctrl-Z does nothing: it would leave the screen half drawn."""
    before = termios.tcgetattr(descriptor)
    changed: list[Any] = termios.tcgetattr(descriptor)
    changed[_LOCAL] &= ~(termios.ECHO | termios.ICANON)
    changed[_CHARACTERS][termios.VMIN] = 1
    changed[_CHARACTERS][termios.VTIME] = 0
    changed[_CHARACTERS][termios.VSUSP] = _OFF
    termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def read_keys(descriptor: int) -> str:
    """What was pressed since; arrows and the like, which come as several bytes, are left out. Raises `EOFError` at the end."""
    try:
        pressed = os.read(descriptor, 1024)
    except OSError as error:
        raise EOFError from error
    if not pressed:
        raise EOFError
    return _SEQUENCES.sub(b"", pressed).decode(errors="ignore")
