"""Every setting, defined once: name, type, unit, default, meaning.

A value comes from the first of: a flag (`--max-memory 1GiB`), the environment (`RINGMASTER_MAX_MEMORY`), the
settings file (`max_memory` in `ringmaster.toml`), the default. `docs/configuration.md` is generated from here.
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
from ringmaster.config.quantities import show_size
from ringmaster.config.types import (
    LEAST_MEMORY_BYTES,
    NODES_TRAFFIC,
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
    refuse_exposure,
)
from ringmaster.errors import SettingsError


class ClusterSettings(BaseSettings):
    """What every process of a cluster has to agree on."""

    model_config = SettingsConfigDict(env_prefix="RINGMASTER_", frozen=True, extra="forbid")
    section: ClassVar[str] = ""

    config: Annotated[Path | None, Field(description="The settings file.")] = None
    data_dir: Annotated[
        Path, Field(description="Folder of the cluster's files, made with mode 0700.")
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
            description="Its password. Better not given as a flag, which others can see.",
        ),
    ] = ""
    etcd_ca: Annotated[
        Path | None, Field(description="PEM file of the authorities to trust. Unset: the system's.")
    ] = None
    etcd_cert: Annotated[
        Path | None, Field(description="PEM file of the certificate to show to etcd.")
    ] = None
    etcd_key: Annotated[Path | None, Field(description="PEM file of its private key.")] = None
    lease_dir: Annotated[
        Path | None,
        Field(
            description="Folder of the sqlite lease database and the process locks, the same for all processes "
            "of a cluster. Unset: what the file `lease-dir` in the data dir names, else `leases` in the data dir; "
            "`ringmaster up` takes a private folder in memory (/dev/shm) where there is room, and writes that file."
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
        int, Field(ge=1, le=8, description="Copies a write needs; with fewer it is refused.")
    ] = 1
    placement: Annotated[
        Literal["ring", "rendezvous"], Field(description="How partitions are placed onto nodes.")
    ] = "ring"
    max_value: Annotated[Size, Field(ge=1, le=512 * 2**20, description="The largest value.")] = (
        8 * 2**20
    )
    sole_copy_wait: Annotated[
        Duration,
        Field(
            description="How long to wait for the last copies of a partition before its snapshot is used."
        ),
    ] = 30.0
    restore: Annotated[
        Switch,
        Field(
            description="After the loss of every copy: load the snapshot (on) or start empty (off)."
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
        int, Field(ge=1, le=1000, description="How many rounds of snapshots are kept.")
    ] = 3
    restore_max_age: Annotated[
        Duration | None,
        Field(description="Snapshots older than this are not restored. Unset: any age."),
    ] = None
    insecure: Annotated[
        bool, Field(description="Allow listening on addresses other than loopback without tokens.")
    ] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="The least severe event to log."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "text", "json"],
        Field(description="`auto`: text on a terminal, else JSON lines."),
    ] = "auto"

    @property
    def coordinator_path(self) -> Path:
        """The folder of the sqlite coordinator's lasting files."""
        return self.data_dir / "coordinator"

    @property
    def lease_path(self) -> Path:
        """The folder of the lease database and the process locks: as given, as the data dir says, or inside it."""
        return self.lease_dir or recorded_lease_dir(self.data_dir) or self.data_dir / "leases"

    @property
    def snapshot_path(self) -> Path:
        """The folder of the snapshots."""
        return self.snapshot_dir or self.data_dir / "snapshots"

    @model_validator(mode="after")
    def _copies_fit(self) -> Self:
        if self.min_in_sync > self.replicas:
            raise ValueError(
                f"--min-in-sync {self.min_in_sync} can never be met with --replicas {self.replicas}"
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
        named = init_settings().get("config") or env_settings().get("config")
        path = None if named is None else Path(named)
        tables = {kind.section: frozenset(kind.model_fields) for kind in COMMANDS}
        file = FileSource(settings_cls, path, tables, cls.file_sections())
        return init_settings, env_settings, file

    @classmethod
    def file_sections(cls) -> dict[str, frozenset[str]]:
        """Tables of the settings file that count for this class, weakest first, and their settings that do."""
        return {cls.section: frozenset(cls.model_fields)}


LEASE_POINTER: Final = "lease-dir"
"""The file in the data dir that names the lease dir, if that is outside."""


def record_lease_dir(data_dir: Path, lease_dir: Path) -> None:
    """Have every process that is given the data dir alone find the leases. Raises `SettingsError`."""
    pointer = data_dir / LEASE_POINTER
    try:
        if lease_dir == data_dir / "leases":
            pointer.unlink(missing_ok=True)
            return
        unfinished = pointer.with_suffix(".tmp")
        unfinished.write_bytes(os.fsencode(lease_dir.absolute()) + b"\n")
        unfinished.replace(pointer)
    except OSError as error:
        raise SettingsError(f"cannot write {pointer}: {error.strerror}") from error


def recorded_lease_dir(data_dir: Path) -> Path | None:
    """What `record_lease_dir` wrote, None if it wrote nothing."""
    try:
        found = (data_dir / LEASE_POINTER).read_bytes().rstrip(b"\n")
    except OSError:
        return None
    return Path(os.fsdecode(found)) if found else None


class ServingSettings(ClusterSettings):
    """What all masters of a cluster should have alike."""

    fastpath: Annotated[
        bool, Field(description="Serve plain requests straight from the connection.")
    ] = True
    deadline: Annotated[
        Duration, Field(gt=0, le=60, description="How long a client's request may take.")
    ] = 6.0
    host_names: Annotated[
        str,
        Field(
            description="Names under which clients reach it, beside localhost and addresses, with commas between; "
            "`*`: any. Other Host headers are refused (DNS rebinding). With `--tokens` any is accepted."
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
            le=300, description="How long a cold start waits for more nodes before placing data."
        ),
    ] = 1.0
    max_fills: Annotated[
        int, Field(ge=1, le=4096, description="Copies that may be filled at one time.")
    ] = 128


class NodeSettings(ClusterSettings):
    """What all nodes of a local cluster have alike."""

    max_memory: Annotated[
        NodeMemory,
        Field(
            description="Budget of one node, for all that its process takes: about 48 MiB of its own, the entries, and "
            f"what is lost between them. At least {show_size(LEAST_MEMORY_BYTES)}."
        ),
    ] = 256 * 10**6
    rebalance_rate: Annotated[
        Size,
        Field(
            ge=1024,
            description="Bytes a second that one node may send to copies being filled, and may receive for its own.",
        ),
    ] = 64 * 2**20
    drain_timeout: Annotated[
        Duration, Field(description="How long a stopping node tries to move its data off.")
    ] = 30.0


class ServiceSettings(ClusterSettings):
    """What masters and nodes have of their own."""

    id: Annotated[
        Id | None, Field(description="The id, stable over restarts. Unset: host name and port.")
    ] = None
    host: Annotated[Host, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Port
    advertise: Annotated[
        Address | None,
        Field(description="`host:port` under which others reach it. Unset: host and port."),
    ] = None

    @property
    def name(self) -> str:
        """The id, or the default one."""
        return self.id or default_id(self.port)

    @property
    def address(self) -> str:
        """`host:port` under which others reach it."""
        return self.advertise or advertised(self.host, self.port)

    @property
    def _hosts(self) -> list[str]:
        return [self.host]

    @property
    def _is_guarded(self) -> bool:
        """Whether it tells those who may from those who may not."""
        return False

    @property
    def _exposure(self) -> str:
        """What is wrong with listening where others reach it."""
        return NODES_TRAFFIC

    @model_validator(mode="after")
    def _bind_is_allowed(self) -> Self:
        if not (self.insecure or self._is_guarded):
            for host in self._hosts:
                refuse_exposure(host, self._exposure)
        return self


class MasterSettings(ServingSettings, ServiceSettings):
    """One master process (`ringmaster master`)."""

    section = "master"

    port: Annotated[Port, Field(description="Port to listen on.")] = 8001
    unix: Annotated[Path | None, Field(description="Unix socket to listen on as well.")] = None
    shared_listen: Annotated[
        Address | None,
        Field(
            description="`host:port` to listen on as well, shared with other masters (SO_REUSEPORT)."
        ),
    ] = None
    workers: Annotated[int, Field(ge=1, le=64, description="Processes that share the port.")] = 1

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

    section = "aux"

    port: Annotated[Port, Field(description="Port for RESP.")] = 7001
    http_port: Annotated[Port, Field(description="Port for health and metrics.")] = 7501
    unix_dir: Annotated[
        Path | None,
        Field(description="Folder for a unix socket that processes of this host use instead."),
    ] = None
    zone: Annotated[
        str, Field(max_length=64, description="Copies of a partition are kept in different zones.")
    ] = ""
    weight: Annotated[
        float, Field(gt=0, le=1000, allow_inf_nan=False, description="Share of the partitions.")
    ] = 1.0


class UpSettings(ServingSettings, NodeSettings):
    """A local cluster (`ringmaster up`). Its `host` is the front door's; all else stays on loopback."""

    section = "up"

    masters: Annotated[int, Field(ge=1, le=64, description="How many masters.")] = 2
    aux: Annotated[int, Field(ge=1, le=256, description="How many nodes.")] = 3
    host: Annotated[Host, Field(description="Address of the front door.")] = "127.0.0.1"
    port: Annotated[Port, Field(ge=1, description="Port of the front door.")] = 8080
    nginx: Annotated[
        Literal["auto", "on", "off"],
        Field(
            description="nginx as the front door: if installed, always, or never (masters share the port)."
        ),
    ] = "auto"
    master_port: Annotated[Port, Field(ge=1, description="Port of the first master.")] = 8001
    aux_port: Annotated[Port, Field(ge=1, description="RESP port of the first node.")] = 7001
    aux_http_port: Annotated[Port, Field(ge=1, description="HTTP port of the first node.")] = 7501
    token: Annotated[
        str,
        Field(
            repr=False,
            description="With `--tokens`: one with the right `read`, for what it shows of the cluster. Better in the "
            "variable or in a file: others can see flags.",
        ),
    ] = ""
    token_file: Annotated[Path | None, Field(description="A file with that token.")] = None

    @model_validator(mode="after")
    def _bind_is_allowed(self) -> Self:
        if not self.insecure and self.tokens is None:
            refuse_exposure(self.host, WITHOUT_TOKENS)
        return self

    @classmethod
    def file_sections(cls) -> dict[str, frozenset[str]]:
        return {
            "master": frozenset(ServingSettings.model_fields),
            "aux": frozenset(NodeSettings.model_fields),
            "up": frozenset(cls.model_fields),
        }


COMMANDS: tuple[type[ClusterSettings], ...] = (UpSettings, MasterSettings, AuxSettings)
"""The settings of each command that has any."""

_S = TypeVar("_S", bound=ClusterSettings)


def load_settings(kind: type[_S], **flags: object) -> _S:
    """The settings of one command; `flags` that are None count as not given. Raises `SettingsError`, one sentence."""
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    try:
        return kind(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(item) for item in error.errors())) from error


def default_id(port: int) -> str:
    """Host name and port: differs between processes of a host and between containers, stays over restarts."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:58]
    return f"{host or 'node'}-{port}"


def advertised(host: str, port: int) -> str:
    """`host:port`; a wildcard address is replaced by the host name, which other containers resolve."""
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
