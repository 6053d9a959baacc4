"""`ringmaster.toml`: settings of all commands at the top, of one command in its table (`[master] [aux] [up]`)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ringmaster.errors import SettingsError

DEFAULT_FILE: Final = Path("ringmaster.toml")


def read_settings_file(
    named: Path | None,
    *,
    known: Mapping[str, frozenset[str]],
    wanted: frozenset[str],
    sections: Mapping[str, frozenset[str]],
) -> dict[str, Any]:
    """The values for one command; {} if no file was `named` and there is no `ringmaster.toml`.

    `known`: every table and the settings it may hold. `wanted`: the command's settings, taken from the top level.
    `sections`: the tables that count for it, weakest first, and which of their settings do.
    Raises `SettingsError` for a file that cannot be read and for anything in it that no command knows.
    """
    path = named or DEFAULT_FILE
    if named is None and not path.exists():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read the settings file {path}: {error}") from error
    _check(path, content, known)
    values = {
        name: value for name, value in content.items() if name in wanted and name not in sections
    }
    for section, counted in sections.items():
        values |= {k: v for k, v in content.get(section, {}).items() if k in counted}
    return values


def _check(path: Path, content: Mapping[str, Any], known: Mapping[str, frozenset[str]]) -> None:
    everywhere = frozenset[str]().union(*known.values())
    for name, value in content.items():
        if name in known and isinstance(value, dict):
            for inner in value:
                if inner not in known[name]:
                    raise SettingsError(f"{path}: there is no setting {inner!r} in [{name}]")
        elif name not in everywhere or name in known:
            raise SettingsError(f"{path}: there is no setting {name!r}")
