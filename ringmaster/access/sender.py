"""The token that a client sends: where it comes from, and the header it goes into."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ringmaster.access.grant import is_token
from ringmaster.errors import SettingsError

VARIABLE: Final = "RINGMASTER_TOKEN"
FILE_VARIABLE: Final = "RINGMASTER_TOKEN_FILE"


def token_from_environment(environment: Mapping[str, str] = os.environ) -> str | None:
    """What `RINGMASTER_TOKEN` says, else what is in the file that `RINGMASTER_TOKEN_FILE` names; None if neither is set.

    Raises `SettingsError` for a file that cannot be read.
    """
    if environment.get(VARIABLE):
        return environment[VARIABLE]
    named = environment.get(FILE_VARIABLE)
    return read_token(Path(named)) if named else None


def read_token(path: Path) -> str:
    """The token that is all there is in the file. Raises `SettingsError`."""
    try:
        return path.read_bytes().decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"cannot read the token in {path}: {why}") from error


def token_headers(token: str | None) -> dict[str, str]:
    """The header that carries it, none without one. Raises `SettingsError`, without saying it, if it cannot be sent."""
    if not token:
        return {}
    if not is_token(token):
        raise SettingsError(
            "what was given as token (--token, RINGMASTER_TOKEN, RINGMASTER_TOKEN_FILE) does not have the form of one; "
            "it is the last word that `ringmaster token create` printed"
        )
    return {"Authorization": f"Bearer {token}"}
