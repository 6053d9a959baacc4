"""`ringmaster.toml`: settings of all commands at the top, of one command in its table (`[master] [aux] [up]`)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from ringmaster.errors import SettingsError

DEFAULT_FILE: Final = Path("ringmaster.toml")


class FileSource(PydanticBaseSettingsSource):
    """The values that a settings file has for one command.

    `named`: the file, or None for `ringmaster.toml` if there is one. `tables`: all tables there may be and their
    settings. `counted`: the tables that count for the command, weakest first, and which of their settings do; they
    outweigh the top level. Raises `SettingsError` for a file that cannot be read and for anything in it that no
    command knows.
    """

    def __init__(
        self,
        kind: type[BaseSettings],
        named: Path | None,
        tables: Mapping[str, frozenset[str]],
        counted: Mapping[str, frozenset[str]],
    ) -> None:
        super().__init__(kind)
        self._named = named
        self._tables = tables
        self._counted = counted

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        path = self._named or DEFAULT_FILE
        if self._named is None and not path.exists():
            return {}
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"cannot read the settings file {path}: {error}") from error
        self._check(path, content)
        wanted = self.settings_cls.model_fields.keys() - self._tables.keys()
        values = {name: value for name, value in content.items() if name in wanted}
        for table, counted in self._counted.items():
            values |= {k: v for k, v in content.get(table, {}).items() if k in counted}
        return values

    def _check(self, path: Path, content: Mapping[str, Any]) -> None:
        everywhere = frozenset[str]().union(*self._tables.values())
        for name, value in content.items():
            if name not in self._tables:
                if name not in everywhere:
                    raise SettingsError(f"{path}: there is no setting {name!r}")
            elif not isinstance(value, dict):
                raise SettingsError(
                    f"{path}: {name} is a table; write [{name}], and its settings below"
                )
            elif unknown := value.keys() - self._tables[name]:
                raise SettingsError(f"{path}: there is no setting {min(unknown)!r} in [{name}]")
