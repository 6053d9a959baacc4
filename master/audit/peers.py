"""Where masters are reached by HTTP. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ringmaster.cluster.registration import MasterRow

_LOOPBACK = ("127.", "[::1]:", "localhost:")


@dataclass(frozen=True, slots=True)
class Peer:
    """A master, this one among them. `url`: without a slash at its end."""

    id: str
    url: str


def peers_of(
    rows: Sequence[MasterRow], own: MasterRow, boot_id: str, *, has_certificate: bool
) -> list[Peer]:
    """All masters that can be reached from here, in the order of `rows`; `own` is the last if it is not among them.

    `boot_id`: of this host. `has_certificate`: whether this one may talk to those that listen with one.
    """
    known = [*rows] if any(row.id == own.id for row in rows) else [*rows, own]
    return [
        Peer(row.id, url)
        for row in known
        if (
            url := _url_of(
                row, is_near=row.id == own.id or row.boot_id == boot_id, tls=has_certificate
            )
        )
    ]


def _url_of(row: MasterRow, *, is_near: bool, tls: bool) -> str:
    """Empty for one that only its own host reaches, and for a port that only the system knows."""
    address, scheme = (row.tls, "https") if row.tls and tls else (row.address, "http")
    if address.endswith(":0") or (address.startswith(_LOOPBACK) and not is_near):
        return ""
    return f"{scheme}://{address}"
