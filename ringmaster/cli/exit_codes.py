"""What every command's exit code means. `docs/clients.md` has the same table."""

from __future__ import annotations

from typing import Final

from ringmaster.errors import BadRequest, RingmasterError, SettingsError

DONE: Final = 0
NO: Final = 1
"""Not there, or not well; also any failure that no other code is for."""

USAGE: Final = 2
"""A mistake in the command or its settings, or a request that the cluster refuses as such."""

UNAVAILABLE: Final = 3
INTERRUPTED: Final = 130
"""By Ctrl-C, as shells have it: 128 and the signal's number."""

EXIT_CODES: Final = {
    DONE: "done",
    NO: "the answer is no, or it failed",
    USAGE: "a mistake in the command or its settings",
    UNAVAILABLE: "the cluster cannot be reached, or cannot serve the request now",
    INTERRUPTED: "interrupted by Ctrl-C",
}
"""All there are."""


def exit_code_of(error: RingmasterError) -> int:
    """Of a command that talks to a cluster and got this error."""
    return USAGE if isinstance(error, BadRequest | SettingsError) else UNAVAILABLE
