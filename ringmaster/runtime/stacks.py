"""What the threads of a process do just now, for who looks into one that hangs: `ringmaster diagnose` asks for it.

SIGUSR1 has faulthandler write a traceback of every thread into a file in memory, which belongs to the process. The system lets only
the process's own user, and root, send the signal and read the file. Nothing is written, and nothing costs anything, before that.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
from typing import Final

STACKS_SIGNAL: Final = signal.SIGUSR1
STACKS_NAME: Final = "ringmaster-stacks"
"""By this name others find the file among the process's descriptors (`/proc/<pid>/fd`)."""


def offer_stacks() -> bool:
    """Answer the signal from now on, until the process ends. False where the system has no files in memory."""
    if not hasattr(os, "memfd_create"):
        return False
    descriptor = os.memfd_create(STACKS_NAME, os.MFD_CLOEXEC)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    # The descriptor stays open for as long as the process lives: faulthandler keeps its number.
    faulthandler.register(STACKS_SIGNAL, file=descriptor, all_threads=True)
    return True
