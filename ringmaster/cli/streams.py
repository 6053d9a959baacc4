"""The standard streams and the arguments of a command, whatever its user did to them: closed, full, or of another encoding.

A command that cannot write its result says so in one line and fails; one that cannot write its messages goes on without.
Keys and other texts are UTF-8 in any locale; names of files are whatever bytes they are.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from ringmaster.cli.exit_codes import NO, USAGE
from ringmaster.errors import RingmasterError, SettingsError

_UNREAL: Final = os.devnull


class BestEffort(io.TextIOWrapper):
    """Text to a descriptor that stays open; what cannot be written is dropped."""

    def __init__(self, descriptor: int) -> None:
        raw = io.FileIO(descriptor, "w", closefd=False)
        super().__init__(
            raw,  # unbuffered: nothing is left over for the exit
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )

    def write(self, text: str) -> int:
        """All of it, as far as one can tell. Names of files that this locale cannot spell are spelt in UTF-8."""
        try:
            if not text.isascii():
                text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            return super().write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
        try:
            super().flush()
        except (OSError, ValueError):
            return


def run_command(call: Callable[[], object], name: str) -> NoReturn:
    """Call it; end with the exit code that it asks for. Mistakes of the user and of the machine are one line.

    A fault of ours keeps its traceback.
    """
    secure_streams()
    raise SystemExit(_flushed(_code_of(call, name), name))


def secure_streams() -> None:
    """Give every closed stream a descriptor that refuses, so that nothing else is opened in its place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The wrong way round for its use: reading and writing fail, as on a closed one.
            mode = os.O_WRONLY if descriptor == 0 else os.O_RDONLY
            os.open(_UNREAL, mode)  # the lowest free number, so this one
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Descriptor(0, "r")), encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Descriptor(1, "w")), encoding="utf-8")
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace" if stream is sys.stdout else None)
    if sys.stderr is sys.__stderr__:
        sys.stderr = BestEffort(2)


class _Descriptor(io.FileIO):
    """A standard descriptor, never closed here."""

    def __init__(self, descriptor: int, mode: str) -> None:
        super().__init__(descriptor, mode, closefd=False)


def _code_of(call: Callable[[], object], name: str) -> int:
    try:
        call()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else NO if end.code else 0
    except BrokenPipeError:
        # Whoever read it has enough.
        _drop_output()
        return NO
    except UnicodeError:
        sys.stderr.write(f"{name}: {_encoding_sentence()}\n")
        return USAGE
    except OSError as error:
        sys.stderr.write(f"{name}: {_sentence(error)}\n")
        _drop_output()
        return NO
    except RingmasterError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return USAGE if isinstance(error, SettingsError) else NO
    return 0


def _flushed(code: int, name: str) -> int:
    """The exit code, once all is written; another if it cannot be."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"{name}: {_sentence(error)}\n")
        _drop_output()
        return code or NO
    return code


def text_of(argument: str) -> str:
    """An argument of the command line as the UTF-8 that it is in any locale. Raises `SettingsError` if it is none."""
    try:
        return argument.encode("utf-8", "surrogateescape").decode()
    except UnicodeError as error:
        raise SettingsError(f"{argument!r} is not valid UTF-8") from error


def _encoding_sentence() -> str:
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return "an argument or a variable is not valid UTF-8"
    return f"an argument or a variable does not fit this locale's encoding, {encoding}: set PYTHONUTF8=1"


def _sentence(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"cannot write the standard output: {what}"
    filename = error.filename
    return f"{os.fsdecode(filename) if isinstance(filename, bytes) else filename}: {what}"


def _drop_output() -> None:
    """What is still in the buffer goes nowhere: the interpreter would try again at its end, and complain."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.close(descriptor)
