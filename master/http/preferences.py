"""`Prefer` (RFC 7240): what a client would like, where it says so in a way that means something here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from master.http.field_cutting import without_field
from ringmaster.errors import BadRequest

MAX_WAIT_S: Final = 30

_element = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')
_before_parameters: Final = re.compile(r'(?:[^";]|"(?:[^"\\]|\\.)*"?)*')
_one_wait = re.compile(rb'[ \t]*wait=("?)([0-9]{1,2})\1[ \t]*', re.IGNORECASE).fullmatch
_PROXIED: Final = re.compile(rb"(?:^|\n)(?:x-forwarded-for|forwarded|via):", re.IGNORECASE)


def wait_of(fields: Iterable[str]) -> int | None:
    """The seconds for which `Prefer: wait=` of a read asks, None without it; the first counts.

    Raises `BadRequest` for anything but a whole number from 0 to `MAX_WAIT_S`.
    """
    for field in fields:
        for preference in _preferences(field):
            name, equals, value = preference.partition("=")
            if name.strip().lower() != "wait":
                continue
            text = value.strip()
            if len(text) > 1 and text[0] == text[-1] == '"':
                text = text[1:-1]
            if not equals or not text.isascii() or not text.isdigit() or len(text) > 9:
                raise BadRequest(
                    f"Prefer: wait takes whole seconds from 0 to {MAX_WAIT_S}, such as wait=10"
                )
            if int(text) > MAX_WAIT_S:
                raise BadRequest(f"Prefer: wait may be {MAX_WAIT_S} seconds at most")
            return int(text)
    return None


def _preferences(field: str) -> Iterator[str]:
    """Each preference of a field without its parameters; commas and semicolons in quotes part nothing (RFC 9110 §5.6.4)."""
    for element in _element.findall(field):
        found = _before_parameters.match(element)
        yield found[0] if found is not None else element


def without_wait(block: bytes) -> tuple[bytes, int] | None:
    """(`block` of header lines without its first `Prefer`, the seconds of that); None unless it says `wait` and nothing else.

    A second such field stays where it is, and the rest is not plain. So is a field that goes on in the next line.
    """
    found = without_field(block, b"prefer")
    if found is None:
        return None
    wait = _one_wait(found[1])
    if wait is None or int(wait[2]) > MAX_WAIT_S:
        return None
    return found[0], int(wait[2])


def is_proxied(block: bytes) -> bool:
    """Whether header lines say that a proxy sends them: its connection is not the client's."""
    return _PROXIED.search(block) is not None


def applied(wait_s: int, fill_token: str = "") -> bytes:
    """Header lines of the reply to a read that asked to wait."""
    line = b"Preference-Applied: wait=%d\r\n" % wait_s
    return b"Fill-Token: %b\r\n%b" % (fill_token.encode(), line) if fill_token else line
