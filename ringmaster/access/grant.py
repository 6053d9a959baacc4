"""A token and what it permits. The token itself is known to its holder alone; here is its hash."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ringmaster.errors import SettingsError
from ringmaster.runtime.rate import parse_rate

RIGHTS: Final = ("read", "write", "admin", "metrics")
"""None contains another."""

LONGEST: Final = 512
"""Characters of a token, and bytes of a prefix or tag."""

# RFC 6750 §2.1: b64token.
_token = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII).fullmatch
_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII).fullmatch
_digest = re.compile(r"[0-9a-f]{64}", re.ASCII).fullmatch
_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search


@dataclass(frozen=True, slots=True)
class Grant:
    """What the holder of one token may do.

    `digest`: SHA-256 of the token, in hexadecimal digits. `prefixes`: of the keys it is good for; none: all keys.
    `tags`: names of the tags it may invalidate; none: all of them, or not one if it has prefixes. `rate`: of its requests, as
    `parse_rate` reads it; empty: what masters have for all tokens.
    """

    name: str
    digest: str
    rights: frozenset[str]
    prefixes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    created: str = ""
    rate: str = ""


def new_token() -> str:
    """A token that cannot be guessed: 256 random bits, with a beginning by which scanners for secrets know it."""
    return "rmt_" + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """Its hash. Without salt or stretching: what has 256 random bits is in no list and is not found by trying."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def is_token(text: str) -> bool:
    """Whether `text` has the form of a token."""
    return len(text) <= LONGEST and _token(text) is not None


def make_grant(
    name: str,
    digest: str,
    rights: Collection[str],
    prefixes: Sequence[str] = (),
    tags: Sequence[str] = (),
    created: str = "",
    rate: str = "",
) -> Grant:
    """A grant that is checked. Raises `SettingsError`; the sentence never holds `digest`: it might be a token by mistake."""
    if _name(name) is None:
        raise SettingsError(
            f"{name[:100]!r} is no name of a token; write 1 to 64 letters, digits, dots, dashes, underscores"
        )
    if _digest(digest) is None:
        raise SettingsError(
            f"token {name}: sha256 must be 64 hexadecimal digits; `ringmaster token create` writes them"
        )
    unknown = sorted(set(rights) - set(RIGHTS))
    if unknown or not rights:
        raise SettingsError(
            f"token {name}: {f'there is no right {unknown[0]!r}' if unknown else 'it has no right'}; "
            f"choose from {', '.join(RIGHTS)}"
        )
    for kind, texts in (("prefix", prefixes), ("tag", tags)):
        for text in texts:
            _check_text(name, kind, text)
    if "admin" in rights and (prefixes or tags):
        raise SettingsError(
            f"token {name}: admin concerns the whole cluster, so it does not go with prefixes or tags; "
            "make two tokens"
        )
    try:
        rate = str(parse_rate(rate)) if rate else ""
    except ValueError as error:
        raise SettingsError(f"token {name}: {error}") from error
    return Grant(name, digest, frozenset(rights), tuple(prefixes), tuple(tags), created, rate)


def _check_text(name: str, kind: str, text: str) -> None:
    if not text or _control(text) or len(text.encode("utf-8", "surrogatepass")) > LONGEST:
        raise SettingsError(
            f"token {name}: a {kind} has 1 to {LONGEST} bytes, without control characters"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f"token {name}: a {kind} is not valid UTF-8") from error
