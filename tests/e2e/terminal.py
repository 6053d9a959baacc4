"""A program in a pseudo-terminal of its own, as a person at a keyboard has it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

OWN_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes the terminal on descriptor 0 the one whose Ctrl-C reaches the program (tty_ioctl(4))."""

ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"
_HOME = b"\x1b[H"
_STYLE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Runs `words` within `with`, on `size` (columns, rows)."""

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], size: tuple[int, int]
    ) -> None:
        self.output = b""
        self._words = words
        self._environment = dict(environment) | {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            self._environment.pop(name, None)
        self._size = size

    def __enter__(self) -> Self:
        self._ours, self._theirs = os.openpty()
        self._set_size(*self._size)
        self.mode = termios.tcgetattr(self._theirs)
        self.program = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *self._words],
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, env=self._environment,
        )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.program.kill()
        self.program.wait(10)
        os.close(self._ours)
        os.close(self._theirs)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """The kernel tells the program by SIGWINCH."""
        self._set_size(columns, rows)

    def _set_size(self, columns: int, rows: int) -> None:
        packed = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, packed)

    def present_mode(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def read(self, patience_s: float = 0.05) -> None:
        """Take what has been printed."""
        while select.select([self._ours], [], [], patience_s)[0]:
            self.output += os.read(self._ours, 65536)

    def frame(self) -> list[str]:
        """The lines of the last picture that is whole."""
        pictures = self.output.split(_HOME)
        found = _STYLE.sub(b"", pictures[-1]).decode(errors="replace")
        return [line.rstrip() for line in found.replace("\r", "").split("\n")]

    def wait_for(
        self, shown: Callable[[list[str]], object], what: str, timeout_s: float = 20
    ) -> None:
        """Until the last picture is as wanted."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.read()
            if shown(self.frame()):
                return
            assert time.monotonic() < deadline, f"{what}: not in {self.frame()}"

    def wait_text(self, text: str) -> None:
        self.wait_for(lambda lines: text in "\n".join(lines), text)

    def end(self, timeout_s: float = 20) -> int:
        """The exit code; what it printed to its end is in `output`."""
        deadline = time.monotonic() + timeout_s
        while self.program.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self.read()
        self.read()
        return self.program.returncode
