"""The settings as rows: for the options of the commands and for `docs/configuration.md`.

`python -m ringmaster.cli.reference` prints that page.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from ringmaster.config.cluster_settings import ClusterSettings
from ringmaster.config.quantities import format_size
from ringmaster.config.serving_settings import ServingSettings
from ringmaster.config.settings import (
    COMMANDS,
    NodeSettings,
)
from ringmaster.config.types import Duration, OnOff, Size


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting, for people. `default` is empty if it is unset; `is_switch`: `--name` or `--no-name`, no value."""

    name: str
    kind: str
    default: str
    description: str
    is_switch: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "RINGMASTER_" + self.name.upper()


def setting_rows(kind: type[ClusterSettings]) -> list[SettingRow]:
    """All settings of `kind`, in the order of their definition."""
    return [_row(name, field) for name, field in kind.model_fields.items()]


def reference_page() -> str:
    """The text of `docs/configuration.md`."""
    parts = [_INTRODUCTION, _table("All commands", ClusterSettings, frozenset())]
    common = frozenset(ClusterSettings.model_fields)
    parts.append(_table("`ringmaster master` and `ringmaster up`", ServingSettings, common))
    parts.append(_table("`ringmaster aux` and `ringmaster up`", NodeSettings, common))
    common |= ServingSettings.model_fields.keys() | NodeSettings.model_fields.keys()
    parts += [_table(f"`ringmaster {kind.command}`", kind, common) for kind in COMMANDS]
    return "\n".join([*parts, _OTHERS])


def _row(name: str, field: FieldInfo) -> SettingRow:
    annotation, metadata = field.annotation, list(field.metadata)
    for inner in get_args(annotation):
        if hasattr(inner, "__metadata__"):
            annotation, metadata = inner.__origin__, [*metadata, *inner.__metadata__]
        elif inner is not type(None) and get_origin(annotation) is not Literal:
            annotation = inner
    is_on_off = any(isinstance(each, OnOff) for each in metadata)
    return SettingRow(
        name=name,
        kind="on or off" if is_on_off else _kind(annotation, metadata),
        default=_shown(field.default, metadata, is_on_off=is_on_off),
        description=field.description or "",
        is_switch=annotation is bool and not is_on_off,
    )


def _kind(annotation: Any, metadata: list[Any]) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if _has(metadata, Size):
        return "size"
    if _has(metadata, Duration):
        return "duration"
    return {bool: "switch", int: "number", float: "number", Path: "path"}.get(annotation, "text")


def _has(metadata: list[Any], annotated: Any) -> bool:
    return any(each in metadata for each in annotated.__metadata__)


def _shown(default: object, metadata: list[Any], *, is_on_off: bool) -> str:
    if default is None:
        return ""
    if isinstance(default, bool):
        return ("on" if default else "off") if is_on_off else ("yes" if default else "no")
    if isinstance(default, int) and _has(metadata, Size):
        return format_size(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _table(title: str, kind: type[ClusterSettings], without: frozenset[str]) -> str:
    lines = [
        f"## {title}",
        "",
        "| flag | variable | value | default | meaning |",
        "|---|---|---|---|---|",
    ]
    for row in setting_rows(kind):
        if row.name not in without:
            flag = f"{row.flag}`, `--no-{row.flag[2:]}" if row.is_switch else row.flag
            default = f"`{row.default}`" if row.default else ""
            lines.append(
                f"| `{flag}` | `{row.variable}` | {row.kind} | {default} | {row.description} |"
            )
    return "\n".join([*lines, ""])


_INTRODUCTION = """\
# Configuration

<!-- Generated from ringmaster/config/settings.py: python -m ringmaster.cli.reference > docs/configuration.md -->

A value comes from the first of these that has one:

1. the flag, e.g. `--max-memory 1GiB`
2. the environment, e.g. `RINGMASTER_MAX_MEMORY=1GiB`
3. the settings file, e.g. `max_memory = "1GiB"`: the file that `--config` or `RINGMASTER_CONFIG` names, else
   `ringmaster.toml` in the current folder, if there is one
4. the default

In the file a setting stands at the top, for all commands, or in the table of one: `[up]`, `[master]`, `[aux]`. The table
outweighs the top. `ringmaster up` also follows what `[master]` and `[aux]` say about settings that it shares with them.
A setting that does not exist is an error.

A **size** is in bytes, or has a unit: `64kB`, `256MB`, `1GB` (powers of 1000), `64KiB`, `256MiB`, `1GiB` (powers of 1024).
A **duration** is in seconds, or has a unit: `500ms`, `10s`, `2m`, `1h`.

Everything listens on loopback. Masters listen on other addresses only with `--tokens` or `--insecure`, nodes only with
`--insecure`: see [security.md](security.md).

`ringmaster up` starts the masters and nodes with all of these settings, and with addresses, ports and ids of its own.
"""

_OTHERS = """\
## `ringmaster get`, `put`, `delete`, `status`, `top`, `locate`, `drain`, `undrain`, `forget`, `scale`, `snapshot`

| flag | variable | default | meaning |
|---|---|---|---|
| `--url` | `RINGMASTER_URL` | `http://127.0.0.1:8080` | Where the cluster answers. |
| `--timeout` | `RINGMASTER_TIMEOUT` | `10` | Seconds until the command gives up; of `top`: until one look does, 3 by default. |
| `--token` | `RINGMASTER_TOKEN` |  | What to identify oneself with, where masters ask for a token. Others can see flags, so better the variable. |
|  | `RINGMASTER_TOKEN_FILE` |  | A file with that token, if the variable is not set. |

[clients.md](clients.md#the-command-line) says what their exit codes mean, and has `--json` and shell completion.

`ringmaster token create`, `list` and `revoke` take `--file` (`RINGMASTER_TOKENS`, `tokens.toml`): [security.md](security.md).

## nginx in a container: `nginx/entrypoint.sh`

| variable | default | meaning |
|---|---|---|
| `RINGMASTER_UPSTREAM` | `master:8001` | Name and port of the masters; every address of the name is used. |
| `RINGMASTER_LISTEN` | `8080` | Port, or address and port, of the front door. |
| `RINGMASTER_NGINX_WORKERS` | `auto` | nginx's processes; `auto`: one per core. |
| `RINGMASTER_BODY_LIMIT` | `33554432` | The largest body in bytes: 32 MiB, or the masters' `max_value` and 64 KiB if that is more. |
| `RINGMASTER_READ_TIMEOUT` | `8` | Seconds until a silent master counts as failed: the masters' deadline and 2. |
| `RINGMASTER_SHUTDOWN_TIMEOUT` | `30` | Seconds that event streams outlast a reload or a stop. |
| `RINGMASTER_RESOLVE_EVERY` | `1` | Seconds between two look-ups of the name. |
| `RINGMASTER_NGINX_RUN_DIR` | `/tmp/ringmaster-nginx` | Folder of nginx's own files. |
| `RINGMASTER_NGINX_TEMPLATE` | `/etc/ringmaster/ringmaster.conf.template` | The template of its configuration. |
"""

if __name__ == "__main__":
    sys.stdout.write(reference_page())
