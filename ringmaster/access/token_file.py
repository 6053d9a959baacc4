"""The file of tokens: TOML, a table `[tokens.NAME]` for each, changed in one step and by one at a time."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ringmaster.access.grant import Grant, make_grant
from ringmaster.errors import SettingsError
from ringmaster.runtime.decoding import toml_table

MODE: Final = 0o600
"""Of a file that is made here."""

_TOO_OPEN: Final = stat.S_IRWXO | stat.S_IWGRP
_MOST_BYTES: Final = 4 * 2**20
_FIELDS: Final = frozenset({"sha256", "rights", "prefixes", "tags", "rate", "created"})
_HEADING: Final = (
    "# Made by `ringmaster token`. It holds hashes only: whoever loses a token needs a new one.\n"
)


def read_tokens(path: Path) -> tuple[Grant, ...]:
    """The tokens of the file, in its order. Raises `SettingsError`, one sentence without anything secret.

    A file that others may read, or that its group may change, is refused.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"cannot read the tokens file {path}: {error.strerror}; `ringmaster token create --file {path} "
            "--name NAME --rights read,write` makes it"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise SettingsError(f"the tokens file {path} is no regular file")
    if found.st_mode & _TOO_OPEN:
        raise SettingsError(
            f"the tokens file {path} has mode {stat.S_IMODE(found.st_mode):04o}: others may read it, or its group "
            f"may change it; write `chmod 600 {path}`"
        )
    if len(raw) > _MOST_BYTES:
        raise SettingsError(f"the tokens file {path} has more than {_MOST_BYTES} bytes")
    try:
        return parse_tokens(raw)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def parse_tokens(raw: bytes) -> tuple[Grant, ...]:
    """The tokens in the content of such a file. Raises `SettingsError`, one sentence without anything secret."""
    try:
        return _grants(toml_table(raw))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the tokens file is not TOML: {error}") from error


def tokens_text(grants: Sequence[Grant]) -> str:
    """The inverse of `parse_tokens`."""
    return _HEADING + "".join(map(_table, grants))


def add_token(path: Path, grant: Grant) -> None:
    """Write `grant` into the file, which is made if there is none. Raises `SettingsError` if its name is taken."""
    with _alone(path) as target:
        grants = read_tokens(target) if target.exists() else ()
        if any(each.name == grant.name for each in grants):
            raise SettingsError(
                f"there is a token {grant.name} in {path} already; revoke it first, or choose another name"
            )
        _replace(target, [*grants, grant])


def remove_token(path: Path, name: str) -> None:
    """Strike the token called `name` out of the file. Raises `SettingsError` if there is none."""
    with _alone(path) as target:
        grants = read_tokens(target)
        left = [each for each in grants if each.name != name]
        if len(left) == len(grants):
            raise SettingsError(f"there is no token {name[:100]!r} in {path}")
        _replace(target, left)


def _grants(content: dict[str, Any]) -> tuple[Grant, ...]:
    unknown = content.keys() - {"tokens"}
    tables = content.get("tokens", {})
    if unknown or not isinstance(tables, dict):
        raise SettingsError("write a table [tokens.NAME] for each token, and nothing else")
    grants = tuple(_grant(name, table) for name, table in tables.items())
    names: dict[str, str] = {}
    for grant in grants:
        other = names.setdefault(grant.digest, grant.name)
        if other != grant.name:
            raise SettingsError(f"the tokens {other} and {grant.name} are the same")
    return grants


def _grant(name: str, table: Any) -> Grant:
    if not isinstance(table, dict):
        raise SettingsError("write a table [tokens.NAME] for each token, and nothing else")
    unknown = sorted(table.keys() - _FIELDS)
    if unknown:
        raise SettingsError(f"token {name[:100]}: there is no field {unknown[0][:100]!r}")
    digest = table.get("sha256")
    texts = {field: table.get(field, []) for field in ("rights", "prefixes", "tags")}
    for field, value in texts.items():
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise SettingsError(f"token {name[:100]}: {field} must be a list of texts")
    if not isinstance(digest, str):
        raise SettingsError(f"token {name[:100]}: sha256, the token's hash, is missing")
    rate = table.get("rate", "")
    if not isinstance(rate, str):
        raise SettingsError(f'token {name[:100]}: rate must be a text, such as "500/s"')
    created = str(table.get("created", ""))
    rights, prefixes, tags = texts["rights"], texts["prefixes"], texts["tags"]
    return make_grant(name, digest, rights, prefixes, tags, created, rate)


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """The file itself, not a link to it, while no other command changes it. Raises `SettingsError`."""
    try:
        target = path.resolve()
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, RuntimeError) as error:
        raise SettingsError(f"cannot use the folder of {path}: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield target
    finally:
        os.close(descriptor)


def _replace(path: Path, grants: Sequence[Grant]) -> None:
    """In one step, so that a master never reads half of it; owner and mode stay."""
    text = tokens_text(grants)
    try:
        before = path.stat() if path.exists() else None
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                if before is not None:
                    _keep_owner(descriptor, before)
                os.fchmod(descriptor, MODE if before is None else stat.S_IMODE(before.st_mode))
                file.flush()
                os.fsync(descriptor)
            os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished)
            raise
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def _keep_owner(descriptor: int, before: os.stat_result) -> None:
    """For a command that root runs on the file of the masters' user."""
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        os.fchown(descriptor, before.st_uid, before.st_gid)


def _table(grant: Grant) -> str:
    lines = [f"\n[tokens.{_text(grant.name)}]", f"sha256 = {_text(grant.digest)}"]
    lines.append(f"rights = {_texts(sorted(grant.rights))}")
    if grant.prefixes:
        lines.append(f"prefixes = {_texts(grant.prefixes)}")
    if grant.tags:
        lines.append(f"tags = {_texts(grant.tags)}")
    if grant.rate:
        lines.append(f"rate = {_text(grant.rate)}")
    if grant.created:
        lines.append(f"created = {_text(grant.created)}")
    return "\n".join(lines) + "\n"


def _texts(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, texts))}]"


def _text(text: str) -> str:
    """A basic string of TOML: JSON's, which has the same escapes, for texts without control characters."""
    return json.dumps(text, ensure_ascii=False)
