"""What a key may be: one rule for every door, HTTP and Redis alike."""

from __future__ import annotations

import re
from typing import Final

MAX_KEY: Final = 512
"""Bytes of a key at most."""

MAX_NAMED: Final = 10
"""Keys that `SkippedKeys` names; the others are only counted."""

_control = re.compile("[\x00-\x1f\x7f-\x9f]").search
_plain = re.compile(rb"[ !#-\[\]-~]*").fullmatch


def key_fault(key: bytes) -> str | None:
    """Why `key` is not 1 to 512 bytes of UTF-8 without control characters (Unicode category Cc); None if it is."""
    if not key:
        return "the key is empty"
    if len(key) > MAX_KEY:
        return f"the key has {len(key)} bytes; at most {MAX_KEY} are allowed"
    try:
        text = key.decode()
    except UnicodeDecodeError as error:
        return f"the key is not UTF-8 (byte {error.start})"
    return control_fault(text)


def control_fault(text: str) -> str | None:
    """Which control character `text` holds, as a sentence; None if there is none."""
    if text.isascii() and text.isprintable():
        return None
    found = _control(text)
    if found is None:
        return None
    return f"the key holds the control character U+{ord(found[0]):04X}; leave it out of keys"


def escaped(key: bytes) -> str:
    r"""`key` in printable ASCII, other bytes as `\xNN`: what redis-cli reads between double quotes."""
    if _plain(key) is not None:
        return key.decode()
    return "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"
        for byte in key
    )


class SkippedKeys:
    """Illegal keys that were found in storage and left out: their `count`, and the escaped `names` of the first."""

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []

    def skips(self, key: bytes) -> bool:
        """Whether `key` is illegal; it is counted then."""
        if key_fault(key) is None:
            return False
        self.count += 1
        if len(self.names) < MAX_NAMED:
            self.names.append(escaped(key))
        return True

    def __str__(self) -> str:
        names = ", ".join(f'"{name}"' for name in self.names)
        return f"{self.count}: {names}{', …' if self.count > len(self.names) else ''}"
