"""Starts a program that does not outlive its supervisor: `launch.py SIGNAL SUPERVISOR_PID PROGRAM ARGUMENT…`.

Run as a script, before anything of ours is imported: it becomes the program, so it costs a few milliseconds once.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Have the kernel send SIGNAL when the supervisor dies (prctl(2)), then become PROGRAM. Returns only on failure."""
    signal_number, supervisor = int(arguments[0]), int(arguments[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
    # It may have died before the call above; then the signal never comes.
    if os.getppid() != supervisor:
        raise SystemExit(1)
    os.execv(arguments[2], arguments[2:])  # noqa: S606 - without a shell is what is meant


if __name__ == "__main__":
    main(sys.argv[1:])
