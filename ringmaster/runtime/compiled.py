"""Whether the hot modules run as machine code, and what this installation calls itself."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Final

from ringmaster import __version__

_PROBE: Final = "ringmaster.protocol.entry"
"""One of the modules under [tool.compiled]; they are compiled together or not at all."""


def is_compiled() -> bool:
    """False: they are interpreted, from the same sources. Loads none of them."""
    found = find_spec(_PROBE)
    origin = (found.origin if found is not None else None) or ""
    return origin.endswith(tuple(EXTENSION_SUFFIXES))


def full_version() -> str:
    """Such as `0.1.0 (compiled)`."""
    return f"{__version__} ({'compiled' if is_compiled() else 'interpreted'})"
