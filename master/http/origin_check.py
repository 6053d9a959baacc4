"""Who may talk to us through a browser: checks of Host, Origin and Sec-Fetch-Site.

A page on another site can make a browser send requests to a loopback address. DNS rebinding gives such a page our
address under a name of its own, so names must be known; an address in the Host header cannot be rebound. Everything
that changes something must come from our own origin, or from a program that sends no Origin at all.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from ringmaster.errors import BadRequest, RingmasterError

_HOST = re.compile(
    r"(?!.*\.\.)(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._~%-]{1,255}))(?::(\d{0,5}))?", re.ASCII
)
_REMEMBERED = 64


class Forbidden(RingmasterError):
    """The request may not come from there. Nothing has changed."""


class Authority:
    """`names`: host names under which clients may reach us, beside `localhost` and any IP address; `*` is any."""

    __slots__ = ("_any", "_names", "_seen")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.strip().lower().rstrip(".") for name in names if name.strip())
        self._any = "*" in self._names
        self._seen: set[str] = set()

    def check_host(self, host: str) -> None:
        """Accept the Host header `host`. Raises `BadRequest` if it is none, `Forbidden` if we do not know it."""
        if host in self._seen:
            return
        name = host_name(host)
        if name is None:
            raise BadRequest("the Host header is not a host name or address with an optional port")
        if not self._accepts(name):
            raise Forbidden(
                f"unknown Host {host[:100]!r}: use the address, or let the operator of the masters add the name with "
                "--host-names (RINGMASTER_HOST_NAMES), or use tokens (--tokens, RINGMASTER_TOKENS)"
            )
        if len(self._seen) < _REMEMBERED:
            self._seen.add(host)

    def check_change(self, host: str, origin: str | None, fetch_site: str | None) -> None:
        """Accept a request that changes something. Raises `Forbidden` if another site's page sent it."""
        if fetch_site is not None and fetch_site.strip().lower() not in ("same-origin", "none"):
            raise Forbidden("a page of another site may not change anything here (Sec-Fetch-Site)")
        if origin is not None and not _same_origin(origin, host):
            raise Forbidden(f"a page of {origin[:100]!r} may not change anything here (Origin)")

    def _accepts(self, name: str) -> bool:
        name = name.lower().rstrip(".")
        if self._any or name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def host_name(host: str) -> str | None:
    """The name or address in an authority without credentials, None if it is none. An address in brackets loses them."""
    match = _HOST.fullmatch(host)
    if match is None or int(match[3] or 0) > 65535:
        return None
    return match[1] or match[2]


def _same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or parts.path or parts.query or parts.fragment:
            return False
        default = 443 if parts.scheme == "https" else 80
        ours = urlsplit(f"//{host}")
        return (parts.hostname, parts.port or default) == (ours.hostname, ours.port or default)
    except ValueError:
        return False
