"""Whose request it is: the address of a connection, or what a trusted proxy says it stands for."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOCAL: Final = "local"
"""The name of who comes by a unix socket and stands for nobody else."""

_PREFIX_BITS: Final = 64
"""Of an IPv6 address: what follows is the subscriber's own to choose."""

_MOST_HOPS: Final = 16


def networks_of(text: str) -> tuple[Network, ...]:
    """Addresses and networks (`10.0.0.0/8`) with commas between, as `--trusted-proxies` has them."""
    return tuple(
        ipaddress.ip_network(each.strip(), strict=False) for each in text.split(",") if each.strip()
    )


def client_name(peer: str, forwarded: str, trusted: Sequence[Network] = ()) -> str:
    """The address by which a client is counted; an IPv6 address is its first 64 bits.

    `peer`: the address of the connection, empty for a unix socket, whose other end is trusted like those in `trusted`. `forwarded`: its
    `X-Forwarded-For`. Each proxy appends whom it heard, so the client is the last that no trusted proxy is.
    """
    known = _address(peer)
    if not is_proxy(peer, trusted):
        return peer if known is None else _name(known)
    for hop in reversed(forwarded.split(",")[-_MOST_HOPS:]):
        address = _address(hop.strip(" \t"))
        if address is None:
            break
        known = address
        if not _is_in(address, trusted):
            break
    return LOCAL if known is None else _name(known)


def is_proxy(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether the other end of a connection stands for others: that of a unix socket does (empty `peer`), and who is in `trusted`."""
    if not peer:
        return True
    address = _address(peer)
    return address is not None and _is_in(address, trusted)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Also with a port, as some proxies write it; an IPv4 address within IPv6 is the former. None for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_in(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Sequence[Network]
) -> bool:
    return any(address in network for network in networks)


def _name(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((address, _PREFIX_BITS), strict=False))
