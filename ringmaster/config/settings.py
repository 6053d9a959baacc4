"""Every setting, defined once: name, type, unit, default, description.

A value comes from the first of these that has one: a flag (`--max-memory 1GiB`), the environment
(`RINGMASTER_MAX_MEMORY`), the settings file (`max_memory` in `ringmaster.toml`), the default.
`docs/configuration.md` is generated from this module.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ringmaster.config.file import FileSource
from ringmaster.config.quantities import format_size
from ringmaster.config.types import (
    MIN_MEMORY_BYTES,
    NODES_TRAFFIC,
    PROCESS_BYTES,
    WITHOUT_TOKENS,
    Address,
    CoordinatorUrl,
    Duration,
    Host,
    Id,
    NodeMemory,
    Port,
    PowerOfTwo,
    Size,
    Switch,
    require_loopback,
)
from ringmaster.errors import SettingsError


class ClusterSettings(BaseSettings):
    """Settings of every process, on which all processes of a cluster must agree.

    `command`: the command that the class is for, and its table in the settings file.
    """

    model_config = SettingsConfigDict(env_prefix="RINGMASTER_", frozen=True, extra="forbid")
    command: ClassVar[str] = ""

    config: Annotated[
        Path | None,
        Field(
            description="The settings file. Unset: ringmaster.toml in the current folder, if there is one."
        ),
    ] = None
    data_dir: Annotated[
        Path, Field(description="Folder of the cluster's files, created with mode 0700.")
    ] = Path("data")
    coordinator: Annotated[
        CoordinatorUrl,
        Field(
            description="`sqlite` (one host, files in the data dir), `sqlite:/folder`, or `etcd://host:2379[,…]` "
            "(`etcds://` with TLS)."
        ),
    ] = "sqlite"
    etcd_cluster: Annotated[Id, Field(description="Name of this cluster in etcd.")] = "default"
    etcd_user: Annotated[str, Field(description="User for etcd's authentication.")] = ""
    etcd_password: Annotated[
        str,
        Field(
            repr=False,
            description="Its password. Set it in the environment or the file: other users can see flags.",
        ),
    ] = ""
    etcd_ca: Annotated[
        Path | None,
        Field(
            description="PEM file of the authorities that sign etcd's certificate. Unset: the system's."
        ),
    ] = None
    etcd_cert: Annotated[
        Path | None, Field(description="PEM file of the client certificate for etcd.")
    ] = None
    etcd_key: Annotated[Path | None, Field(description="PEM file of its private key.")] = None
    lease_dir: Annotated[
        Path | None,
        Field(
            description="Folder of the sqlite lease database and the process locks, the same for all processes "
            "of a cluster. Unset: the folder named by the file `lease-dir` in the data dir, else `leases` in the data dir; "
            "`ringmaster up` creates a private folder in memory (/dev/shm) if there is room, and writes that file."
        ),
    ] = None
    replicas: Annotated[
        int, Field(ge=1, le=8, description="Copies of each partition, the primary included.")
    ] = 2
    partitions: Annotated[
        PowerOfTwo,
        Field(
            ge=1,
            le=65536,
            description="Partitions, a power of two. Used only when the cluster is created.",
        ),
    ] = 1024
    min_in_sync: Annotated[
        int,
        Field(
            ge=1, le=8, description="In-sync copies that a write needs; with fewer it is refused."
        ),
    ] = 1
    placement: Annotated[
        Literal["ring", "rendezvous"], Field(description="How partitions are placed onto nodes.")
    ] = "ring"
    max_value: Annotated[
        Size, Field(ge=1, le=512 * 2**20, description="Size of the largest value.")
    ] = 8 * 2**20
    sole_copy_wait: Annotated[
        Duration,
        Field(
            description="How long to wait for a partition's last copies before its snapshot is restored."
        ),
    ] = 30.0
    restore: Annotated[
        Switch,
        Field(
            description="When every copy of a partition is lost: load its snapshot (on) or start empty (off)."
        ),
    ] = True
    snapshot_dir: Annotated[
        Path | None,
        Field(
            description="Folder of the snapshots, shared by all nodes. Unset: `snapshots` in the data dir."
        ),
    ] = None
    snapshot_interval: Annotated[
        Duration,
        Field(description="Time between snapshots. 0: only at a clean stop and on request."),
    ] = 10.0
    snapshot_keep: Annotated[
        int, Field(ge=1, le=1000, description="How many rounds of snapshots to keep.")
    ] = 3
    restore_max_age: Annotated[
        Duration | None,
        Field(description="Snapshots older than this are not restored. Unset: any age."),
    ] = None
    link_ca: Annotated[
        Path | None,
        Field(
            description="PEM file of the authority that signs the certificates of this cluster's masters and nodes. With it, and "
            "`--link-cert` and `--link-key`, links between them by TCP are encrypted, and each side must show one."
        ),
    ] = None
    link_cert: Annotated[
        Path | None, Field(description="PEM file of this process's certificate for such links.")
    ] = None
    link_key: Annotated[Path | None, Field(description="PEM file of its private key.")] = None
    insecure: Annotated[
        bool, Field(description="Allow listening on addresses other than loopback without tokens.")
    ] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="The least severe events to log."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "text", "json"],
        Field(description="`auto`: text on a terminal, else JSON lines."),
    ] = "auto"

    @property
    def coordinator_path(self) -> Path:
        """The folder of the sqlite coordinator's durable files."""
        return self.data_dir / "coordinator"

    @property
    def lease_path(self) -> Path:
        """The folder of the lease database and the process locks: as set, as recorded in the data dir, or inside it."""
        return self.lease_dir or recorded_lease_dir(self.data_dir) or self.data_dir / "leases"

    @property
    def snapshot_path(self) -> Path:
        """The folder of the snapshots."""
        return self.snapshot_dir or self.data_dir / "snapshots"

    @property
    def link_files(self) -> tuple[Path, Path, Path] | None:
        """Authority, certificate and key for encrypted links; None: they are not encrypted."""
        files = (self.link_ca, self.link_cert, self.link_key)
        return None if None in files else files  # type: ignore[return-value]

    @model_validator(mode="after")
    def _has_all_for_encrypted_links(self) -> Self:
        files = (self.link_ca, self.link_cert, self.link_key)
        if any(files) and not all(files):
            raise ValueError("--link-ca, --link-cert and --link-key go together")
        return self

    @model_validator(mode="after")
    def _min_in_sync_is_possible(self) -> Self:
        if self.min_in_sync > self.replicas:
            raise ValueError(
                f"--min-in-sync {self.min_in_sync} cannot be met with --replicas {self.replicas}"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        *_unused: PydanticBaseSettingsSource,
        **_by_name: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        config = init_settings().get("config") or env_settings().get("config")
        path = None if config is None else Path(config)
        tables = {kind.command: frozenset(kind.model_fields) for kind in COMMANDS}
        file = FileSource(settings_cls, path, tables, cls.file_tables())
        return init_settings, env_settings, file

    @classmethod
    def file_tables(cls) -> dict[str, frozenset[str]]:
        """The tables of the settings file that apply to this class, and which of their settings do. Later ones win."""
        return {cls.command: frozenset(cls.model_fields)}


_LEASE_DIR_FILE: Final = "lease-dir"
"""The file in the data dir that names the lease dir, if that is elsewhere."""


def record_lease_dir(data_dir: Path, lease_dir: Path) -> None:
    """Write the lease dir's path into the data dir, where every process that is given no lease dir looks for it.

    Raises `SettingsError`.
    """
    record = data_dir / _LEASE_DIR_FILE
    try:
        if lease_dir == data_dir / "leases":
            record.unlink(missing_ok=True)
            return
        temporary = record.with_suffix(".tmp")
        temporary.write_bytes(os.fsencode(lease_dir.absolute()) + b"\n")
        temporary.replace(record)
    except OSError as error:
        raise SettingsError(f"cannot write {record}: {error.strerror}") from error


def recorded_lease_dir(data_dir: Path) -> Path | None:
    """The path that `record_lease_dir` wrote, None if there is none."""
    try:
        recorded = (data_dir / _LEASE_DIR_FILE).read_bytes().rstrip(b"\n")
    except OSError:
        return None
    return Path(os.fsdecode(recorded)) if recorded else None


class ServingSettings(ClusterSettings):
    """Settings that all masters of a cluster should share."""

    fastpath: Annotated[
        bool,
        Field(
            description="Serve plain requests of /data on a short way, several times as fast. Off: to compare."
        ),
    ] = True
    deadline: Annotated[
        Duration,
        Field(
            gt=0,
            le=60,
            description="How long a client's request may take until it is answered 503.",
        ),
    ] = 6.0
    shed_after: Annotated[
        Duration,
        Field(
            ge=0,
            le=10,
            description="Once requests have taken so long for a tenth of a second, so that even the quickest did, as many are answered "
            "503 at once as must be for the others to be that quick. 0: never.",
        ),
    ] = 0.005
    host_names: Annotated[
        str,
        Field(
            description="Host names under which clients reach it, separated by commas; localhost and IP addresses always "
            "work, `*` allows any name. Other Host headers are refused, against DNS rebinding. With `--tokens` any is accepted."
        ),
    ] = ""
    tokens: Annotated[
        Path | None,
        Field(
            description="File of the tokens with which clients identify themselves (`ringmaster token create`), not "
            "readable by others; read again when it changes. Unset: everyone who reaches it may do everything."
        ),
    ] = None
    bootstrap_wait: Annotated[
        Duration,
        Field(
            le=300,
            description="How long a cluster that starts waits for further nodes before it places data.",
        ),
    ] = 1.0
    max_fills: Annotated[
        int, Field(ge=1, le=4096, description="How many copies may be filled at the same time.")
    ] = 128
    max_connections: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Connections that one master takes at one time; more are answered 503 and closed. 0: no cap. "
            "Those by its unix socket, as from the nginx beside it, are counted and never refused.",
        ),
    ] = 10_000
    max_connections_per_address: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="How many of them may come from one client address. 0: no cap, as where a proxy on another "
            "machine is the only client.",
        ),
    ] = 5_000


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
    workers: Annotated[
        int, Field(ge=1, le=64, description="How many processes share the port.")
    ] = 1

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


COMMANDS: tuple[type[ClusterSettings], ...] = (UpSettings, MasterSettings, AuxSettings)
"""The settings class of each command that has one."""

_S = TypeVar("_S", bound=ClusterSettings)


def load_settings(kind: type[_S], **flags: object) -> _S:
    """The settings of one command. `flags` that are None are ignored. Raises `SettingsError`."""
    values: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    try:
        return kind(**values)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(item) for item in error.errors())) from error


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
