"""Reads `ringmaster.toml`: settings of all commands at the top level, of one command in its table (`[master]`, `[aux]`,
`[up]`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from ringmaster.errors import SettingsError
from ringmaster.runtime.decoding import toml_table

DEFAULT_FILE: Final = Path("ringmaster.toml")


class FileSource(PydanticBaseSettingsSource):
    """The values in a settings file that apply to one command.

    `path`: the file; None: `ringmaster.toml`, if there is one. `tables`: the name of every valid table, and the settings
    it may have. `applicable`: the tables that apply to this command, and which of their settings do; a later table
    overrides an earlier one, and all of them override the top level. Raises `SettingsError` if the file cannot be read,
    or has a setting that no command knows.
    """

    def __init__(
        self,
        kind: type[BaseSettings],
        path: Path | None,
        tables: Mapping[str, frozenset[str]],
        applicable: Mapping[str, frozenset[str]],
    ) -> None:
        super().__init__(kind)
        self._explicit_path = path
        self._tables = tables
        self._applicable = applicable

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        path = self._explicit_path or DEFAULT_FILE
        if self._explicit_path is None and not path.exists():
            return {}
        try:
            content = toml_table(path.read_bytes())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"cannot read the settings file {path}: {error}") from error
        self._refuse_unknown(path, content)
        at_top = self.settings_cls.model_fields.keys() - self._tables.keys()
        values = {name: value for name, value in content.items() if name in at_top}
        for table, names in self._applicable.items():
            values |= {k: v for k, v in content.get(table, {}).items() if k in names}
        return values

    def _refuse_unknown(self, path: Path, content: Mapping[str, Any]) -> None:
        known = frozenset[str]().union(*self._tables.values())
        for name, value in content.items():
            if name not in self._tables:
                if name not in known:
                    raise SettingsError(f"{path}: there is no setting {name!r}")
            elif not isinstance(value, dict):
                raise SettingsError(
                    f"{path}: {name} is a table; write [{name}] and its settings below it"
                )
            elif unknown := value.keys() - self._tables[name]:
                raise SettingsError(f"{path}: there is no setting {min(unknown)!r} in [{name}]")
