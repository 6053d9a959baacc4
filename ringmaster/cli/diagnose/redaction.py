"""Takes secrets out of what goes into an archive: those that are known by their value, and what looks like one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

from ringmaster.access.sender import VARIABLE

REDACTED: Final = b"[redacted]"

LEAST_LENGTH: Final = 4
"""Characters. Shorter values occur in any text: replacing them would leave nothing of it."""

_LEAST_GUESSED: Final = 8
"""The same for what only its name makes a secret: `true`, say, is none."""

_NAMES: Final = r"(?:password|passwd|secret|token|api_?key|access_?key|private_?key|credential)s?"
_NAMED = re.compile(rf"{_NAMES}$", re.IGNORECASE)

_PATTERNS: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        rb"(?P<kept>)rmt_[A-Za-z0-9_-]{8,}",
        rb"(?P<kept>authorization['\"]?\s*[:=]\s*['\"]?)[^\r\n\"']+",
        rb"(?P<kept>\bbearer\s+)[A-Za-z0-9._~+/-]{8,}=*",
        rb"(?P<kept>)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        rb"(?P<kept>://[^\s/:@]{1,200}:)[^\s/@]{1,200}(?=@)",
        # A field of JSON that is called so, to the end of its text.
        rb"(?P<kept>[\w-]*" + _NAMES.encode() + rb"\"\s*:\s*\")(?:[^\"\\]|\\.)+",
        # A field or a flag that is called so, with its value: --etcd-password=x, PASSWORD=x.
        rb"(?P<kept>[\w-]*" + _NAMES.encode() + rb"['\"]?\s*[:=]\s*['\"]?)[^\s,'\"{}\[\]]{1,4096}",
    )
)


def is_secret_name(name: str) -> bool:
    """Whether what is called so is a secret: `etcd_password`, `RINGMASTER_TOKEN`."""
    return _NAMED.search(name) is not None


class Redaction:
    """`values`: secrets that are known. `count`: how many places were replaced."""

    def __init__(self, values: Iterable[str]) -> None:
        self.count = 0
        self._values: tuple[bytes, ...] = ()
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Take these out as well, in any of the forms that they have in JSON and URLs."""
        found = set(self._values)
        for value in values:
            if len(value) >= LEAST_LENGTH:
                raw = value.encode("utf-8", "surrogateescape")
                found |= {raw, json.dumps(value)[1:-1].encode(), quote(raw, safe="").encode()}
        # The longest first: one may be the beginning of another.
        self._values = tuple(sorted(found, key=len, reverse=True))

    def clean(self, content: bytes) -> bytes:
        """`content` without them."""
        for value in self._values:
            self.count += content.count(value)
            content = content.replace(value, REDACTED)
        for pattern in _PATTERNS:
            content, count = pattern.subn(rb"\g<kept>" + REDACTED, content)
            self.count += count
        return content


def secret_variables(environment: Mapping[str, str]) -> list[str]:
    """The values of variables whose names say that they are secrets. Those of our own are settings, which are known by themselves."""
    return [
        value
        for name, value in environment.items()
        if is_secret_name(name)
        and len(value) >= _LEAST_GUESSED
        and not (name.upper().startswith("RINGMASTER_") and name.upper() != VARIABLE)
    ]
