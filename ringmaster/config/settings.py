"""The settings of each command: name, type, unit, default, description, each defined once.

What all processes of a cluster share is in `cluster_settings`, what masters share in `serving_settings`. A value comes from the
first of these that has one: a flag (`--max-memory 1GiB`), the environment (`RINGMASTER_MAX_MEMORY`), the settings file
(`max_memory` in `ringmaster.toml`), the default. `docs/configuration.md` is generated from these modules.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from ringmaster.config.cluster_settings import ClusterSettings
from ringmaster.config.quantities import format_size
from ringmaster.config.serving_settings import ServingSettings
from ringmaster.config.types import (
    MIN_MEMORY_BYTES,
    NODES_TRAFFIC,
    PROCESS_BYTES,
    WITHOUT_TOKENS,
    Address,
    Duration,
    Host,
    Id,
    NodeMemory,
    Port,
    Size,
    require_loopback,
)
from ringmaster.errors import SettingsError


class NodeSettings(ClusterSettings):
    """Settings that all nodes of a local cluster share."""

    max_memory: Annotated[
        NodeMemory,
        Field(
            description="Memory budget of one node's whole process: about "
            f"{format_size(PROCESS_BYTES)} for itself, the entries, and fragmentation. "
            f"At least {format_size(MIN_MEMORY_BYTES)}."
        ),
    ] = 256 * 10**6
    rebalance_rate: Annotated[
        Size,
        Field(
            ge=1024,
            description="Bytes per second that a node may send to copies being filled, and may receive for its own.",
        ),
    ] = 64 * 2**20
    max_clients: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="RESP connections that one node takes at one time; more get `ERR max number of clients reached`. "
            "0: no cap. Masters and other nodes are let in beyond it, by the cluster's secret.",
        ),
    ] = 10_000
    drain_timeout: Annotated[
        Duration, Field(description="How long a stopping node may take to move its data to others.")
    ] = 30.0


class ServiceSettings(ClusterSettings):
    """Settings of one process, master or node."""

    id: Annotated[
        Id | None,
        Field(
            description="The id, which must stay the same over restarts. Unset: host name and port."
        ),
    ] = None
    host: Annotated[Host, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Port
    advertise: Annotated[
        Address | None,
        Field(description="`host:port` under which others reach it. Unset: host and port."),
    ] = None

    @property
    def name(self) -> str:
        """The id as set, or the default one."""
        return self.id or default_id(self.port)

    @property
    def address(self) -> str:
        """`host:port` under which others reach it."""
        return self.advertise or advertised_address(self.host, self.port)

    @property
    def _hosts(self) -> list[str]:
        return [self.host]

    @property
    def _is_guarded(self) -> bool:
        """Whether it tells those who may from those who may not, and nobody on the way can listen."""
        return self.link_files is not None

    @property
    def _exposure(self) -> str:
        """What is wrong with listening where others reach it."""
        return NODES_TRAFFIC

    @model_validator(mode="after")
    def _listens_on_loopback_or_guarded(self) -> Self:
        if not (self.insecure or self._is_guarded):
            for host in self._hosts:
                require_loopback(host, self._exposure)
        return self


_Service = TypeVar("_Service", bound=ServiceSettings)


def _with_link_files(settings: _Service, tls_listen: str | None) -> _Service:
    if tls_listen is not None and settings.link_files is None:
        raise ValueError("--tls-listen needs --link-ca, --link-cert and --link-key")
    return settings


class MasterSettings(ServingSettings, ServiceSettings):
    """One master process (`ringmaster master`)."""

    command = "master"

    port: Annotated[Port, Field(description="Port to listen on.")] = 8001
    unix: Annotated[Path | None, Field(description="A unix socket to listen on as well.")] = None
    shared_listen: Annotated[
        Address | None,
        Field(
            description="A second `host:port` to listen on, shared with other masters (SO_REUSEPORT)."
        ),
    ] = None
    front: Annotated[
        Literal["none", "nginx"],
        Field(
            description="What passes requests on by the unix socket or from `--trusted-proxies`: `nginx`, if it does what "
            "`X-Accel-Limit-Rate` says. Then requests are refused for what waits there as well, and the end of a refusal is a second late."
        ),
    ] = "none"
    tls_listen: Annotated[
        Address | None,
        Field(
            description="A further `host:port` to listen on, for a proxy on another machine: speaks TLS with `--link-cert`, and serves "
            "only who shows a certificate that `--link-ca` has signed."
        ),
    ] = None
    workers: Annotated[
        int, Field(ge=1, le=64, description="How many processes share the port.")
    ] = 1

    @model_validator(mode="after")
    def _has_a_certificate_to_listen_with(self) -> Self:
        return _with_link_files(self, self.tls_listen)

    @property
    def tls_address(self) -> str:
        """`host:port` under which others reach `tls_listen`, empty without it."""
        if self.tls_listen is None:
            return ""
        host, _, port = self.tls_listen.rpartition(":")
        return advertised_address(host.strip("[]"), int(port))

    @property
    def _is_guarded(self) -> bool:
        return self.tokens is not None

    @property
    def _exposure(self) -> str:
        return WITHOUT_TOKENS

    @property
    def _hosts(self) -> list[str]:
        shared = [] if self.shared_listen is None else [self.shared_listen.rpartition(":")[0]]
        return [self.host, *shared]


class AuxSettings(NodeSettings, ServiceSettings):
    """One node (`ringmaster aux`)."""

    command = "aux"

    port: Annotated[Port, Field(description="Port for RESP.")] = 7001
    http_port: Annotated[Port, Field(description="Port for health and metrics.")] = 7501
    tls_listen: Annotated[
        Address | None,
        Field(
            description="A `host:port` for health and metrics as well: speaks TLS with `--link-cert`, and serves only who shows a certificate "
            "that `--link-ca` has signed. With it `--http-port` is on loopback alone."
        ),
    ] = None
    unix_dir: Annotated[
        Path | None,
        Field(
            description="Folder for a unix socket that processes of this host use instead of the port."
        ),
    ] = None
    zone: Annotated[
        str,
        Field(
            max_length=64,
            description="Where it stands, such as a rack or a room: the copies of a partition are placed in different zones.",
        ),
    ] = ""
    weight: Annotated[
        float,
        Field(
            gt=0,
            le=1000,
            allow_inf_nan=False,
            description="Its share of the partitions, relative to other nodes: one of weight 2 gets twice as many.",
        ),
    ] = 1.0

    @model_validator(mode="after")
    def _has_a_certificate_to_listen_with(self) -> Self:
        return _with_link_files(self, self.tls_listen)


class UpSettings(ServingSettings, NodeSettings):
    """A local cluster (`ringmaster up`). `host` is the front door's; everything else listens on loopback."""

    command = "up"

    masters: Annotated[int, Field(ge=1, le=64, description="How many masters.")] = 2
    aux: Annotated[int, Field(ge=1, le=256, description="How many nodes.")] = 3
    host: Annotated[Host, Field(description="Address of the front door.")] = "127.0.0.1"
    port: Annotated[Port, Field(ge=1, description="Port of the front door.")] = 8080
    nginx: Annotated[
        Literal["auto", "on", "off"],
        Field(
            description="nginx as the front door: if it is installed, always, or never (the masters share the port)."
        ),
    ] = "auto"
    tls_cert: Annotated[
        Path | None,
        Field(
            description="Certificate of the front door, with its chain (PEM): nginx speaks TLS and HTTP/2 then."
        ),
    ] = None
    tls_key: Annotated[Path | None, Field(description="The key of that certificate (PEM).")] = None
    master_port: Annotated[Port, Field(ge=1, description="Port of the first master.")] = 8001
    aux_port: Annotated[Port, Field(ge=1, description="RESP port of the first node.")] = 7001
    aux_http_port: Annotated[Port, Field(ge=1, description="HTTP port of the first node.")] = 7501
    token: Annotated[
        str,
        Field(
            repr=False,
            description="With `--tokens`: a token with the right `read`, by which it shows how the cluster is. Better in the "
            "variable or in a file: others can see flags.",
        ),
    ] = ""
    token_file: Annotated[Path | None, Field(description="A file that holds the token.")] = None

    @model_validator(mode="after")
    def _has_all_of_a_certificate(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together")
        if self.tls_cert is not None and self.nginx == "off":
            raise ValueError("only nginx speaks TLS: leave --nginx off away")
        return self

    @model_validator(mode="after")
    def _listens_on_loopback_or_guarded(self) -> Self:
        if not self.insecure and self.tokens is None:
            require_loopback(self.host, WITHOUT_TOKENS)
        return self

    @classmethod
    def file_tables(cls) -> dict[str, frozenset[str]]:
        return {
            "master": frozenset(ServingSettings.model_fields),
            "aux": frozenset(NodeSettings.model_fields),
            "up": frozenset(cls.model_fields),
        }


COMMANDS: Final[tuple[type[ClusterSettings], ...]] = (UpSettings, MasterSettings, AuxSettings)
"""The settings class of each command that has one."""

_S = TypeVar("_S", bound=ClusterSettings)


def load_settings(kind: type[_S], **flags: object) -> _S:
    """The settings of one command. `flags` that are None are ignored. Raises `SettingsError`."""
    values: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = kind(**values)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(item) for item in error.errors())) from error
    settings.note_sources(values.keys(), os.environ)
    return settings


def default_id(port: int) -> str:
    """Host name and port: unique among processes of a host and among containers, and the same after a restart."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:58]
    return f"{host or 'node'}-{port}"


def advertised_address(host: str, port: int) -> str:
    """`host:port`. A wildcard address is replaced by the host name, which other containers can resolve."""
    if host in ("0.0.0.0", "::", "*"):  # noqa: S104 - compared, not bound
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _sentence(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = str(item["loc"][0])
    if item["type"] == "extra_forbidden":
        return f"there is no setting {name!r}"
    if item["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, got {item['input']!r}"
    return f"--{name.replace('_', '-')} (RINGMASTER_{name.upper()}): {message}"
