"""Runs commands, each in a child of this process with streams as asked for: starting Python takes longer than they do.

`python -m tests.e2e.forked_commands FILE`: a list of cases as JSON; prints the exit code and the output of each.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import ringmaster.cli.app  # noqa: F401 - loaded once, for all
from ringmaster.cli import main


def redirect(streams: dict[str, str], folder: Path) -> None:
    """Each of 0, 1, 2 is a file to open, or empty: closed, as the interpreter would find it at its start."""
    for descriptor in (0, 1, 2):
        os.close(descriptor)
        path = streams.get(str(descriptor), str(folder / str(descriptor)))
        if path:
            flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT
            opened = os.open(path, flags, 0o600)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    sys.stdin = _text(0, "r", streams)
    sys.stdout = _text(1, "w", streams)
    sys.stderr = sys.__stderr__ = _text(2, "w", streams)  # type: ignore[misc]


def _text(descriptor: int, mode: str, streams: dict[str, str]) -> Any:
    if streams.get(str(descriptor), "there") == "":
        return None
    errors = "backslashreplace" if descriptor == 2 else "strict"
    encoding = sys.getdefaultencoding() if sys.flags.utf8_mode else "ascii"
    return open(descriptor, mode, encoding=encoding, errors=errors, closefd=False)


def run(cases: list[dict[str, Any]]) -> None:
    """Ends in each child with the command that it became."""
    results = []
    for case in cases:
        folder = Path(tempfile.mkdtemp())
        pid = os.fork()
        if pid == 0:
            redirect(case["streams"], folder)
            words = [os.fsdecode(word.encode("utf-8", "surrogateescape")) for word in case["words"]]
            sys.argv = ["ringmaster", *words]
            main()
        _, status = os.waitpid(pid, 0)
        said = [read(folder / name) for name in ("1", "2")]
        results.append([os.waitstatus_to_exitcode(status), *said])
    sys.stdout.write(json.dumps(results))


def read(path: Path) -> str:
    return path.read_text("utf-8", errors="backslashreplace") if path.exists() else ""


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text()))
