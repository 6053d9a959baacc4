"""The types of settings: which values each accepts, and the error message for those it does not."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from ringmaster.config.quantities import format_size, parse_duration, parse_size
from ringmaster.runtime.rate import parse_rate

PROCESS_BYTES: Final = 72 * 2**20
"""Resident memory of a node's process without entries (measured: 69 MiB interpreted, 72 compiled, CPython 3.11, glibc 2.36)."""

MIN_MEMORY_BYTES: Final = 96 * 2**20
"""With less, a node would have almost nothing left for entries: while it is written to, buffers and holes take 10 MiB of the rest."""


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"{value} is not a power of two; write one, such as 1024")
    return value


def _coordinator(value: str) -> str:
    if value != "sqlite" and not re.fullmatch(r"sqlite:\S.*|etcds?://[^\s/]+", value):
        raise ValueError(
            f"{value!r} is not a coordinator; write sqlite or etcd://host:2379[,host:2379…]"
        )
    return value


def _host_and_port(value: str) -> str:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):\d{1,5}", value):
        raise ValueError(f"{value!r} is not an address; write host:port or [v6]:port")
    return value


def _rate(value: str) -> str:
    """Empty: none, as a variable of a compose file has it."""
    return str(parse_rate(value)) if value else ""


def _networks(value: str) -> str:
    if not value:
        return ""
    try:
        found = [ipaddress.ip_network(each.strip(), strict=False) for each in value.split(",")]
    except ValueError as error:
        raise ValueError(
            f"{value!r} is no list of addresses; write 10.0.0.7 or 10.0.0.0/8, with commas between: {error}"
        ) from error
    return ",".join(map(str, found))


def _id(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError(
            f"{value!r} is not an id; write 1 to 64 letters, digits, dots, dashes or underscores"
        )
    return value


def _enough_memory(value: int) -> int:
    if value < MIN_MEMORY_BYTES:
        raise ValueError(
            f"{format_size(value)} is too little for a node: its process takes about "
            f"{format_size(PROCESS_BYTES)} before it holds anything; give it {format_size(MIN_MEMORY_BYTES)} or more"
        )
    return value


class OnOff:
    """Marks a bool whose value is written `on` or `off`, on the command line as well."""


Size = Annotated[int, BeforeValidator(parse_size)]
NodeMemory = Annotated[Size, AfterValidator(_enough_memory)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
Port = Annotated[int, Field(ge=0, le=65535)]
Host = Annotated[str, Field(min_length=1)]
Address = Annotated[str, AfterValidator(_host_and_port)]
CoordinatorUrl = Annotated[str, AfterValidator(_coordinator)]
PowerOfTwo = Annotated[int, AfterValidator(_power_of_two)]
Id = Annotated[str, AfterValidator(_id)]
Switch = Annotated[bool, OnOff()]
RateText = Annotated[str, AfterValidator(_rate)]
Networks = Annotated[str, AfterValidator(_networks)]


WITHOUT_TOKENS: Final = (
    "anyone who reaches it could read and change everything; make tokens for those who may (`ringmaster token create "
    "--file tokens.toml --name NAME --rights read,write`) and give --tokens tokens.toml (RINGMASTER_TOKENS)"
)
NODES_TRAFFIC: Final = (
    "what nodes and masters say to each other is not encrypted, and a node's health and metrics are open to anyone; give "
    "--link-ca, --link-cert and --link-key (and --tls-listen for health and metrics), or have them on a network that nobody else is on"
)
"""Why an address is refused, and what to do about it."""


def require_loopback(host: str, why: str) -> None:
    """Raise `ValueError` unless `host` is certainly a loopback address. Of names only `localhost` is. `why`: goes into it."""
    if host == "localhost":
        return
    try:
        if ipaddress.ip_address(host.strip("[]")).is_loopback:
            return
    except ValueError:
        pass
    raise ValueError(
        f"refusing to listen on {host}: {why}; or listen on 127.0.0.1, or accept it with --insecure "
        "(RINGMASTER_INSECURE=true)"
    )
