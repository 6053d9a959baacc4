"""The settings that all processes of a cluster share, and where the value of any setting comes from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ringmaster.config.eviction import EvictionPolicy
from ringmaster.config.file import FileSource
from ringmaster.config.lease_dir import recorded_lease_dir
from ringmaster.config.types import CoordinatorUrl, Duration, Id, PowerOfTwo, Size, Switch


class ClusterSettings(BaseSettings):
    """Settings of every process, on which all processes of a cluster must agree.

    `command`: the command that the class is for, and its table in the settings file.
    """

    model_config = SettingsConfigDict(env_prefix="RINGMASTER_", frozen=True, extra="forbid")
    command: ClassVar[str] = ""
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

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
        Path | None,
        Field(
            description="PEM file of the client certificate for etcd. With it, or `--etcd-ca`, connections to etcd are encrypted."
        ),
    ] = None
    etcd_key: Annotated[
        Path | None,
        Field(description="PEM file of its private key. Unset: it is in `--etcd-cert`."),
    ] = None
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
    eviction: Annotated[
        EvictionPolicy,
        Field(
            description="How nodes choose what to evict. `ringmaster eviction` changes it while the cluster runs."
        ),
    ] = "adaptive"
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

    def __eq__(self, other: object) -> bool:
        """Whether all values are the same, wherever they come from."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def source_of(self, name: str) -> str:
        """Where the value of a setting comes from: `default`, `file`, `environment` or `flag`."""
        return self._sources.get(name, "default")

    def note_sources(self, flags: Collection[str], environment: Mapping[str, str]) -> None:
        """Keep where values come from: those of `flags` from the command line, the others as the sources go."""
        prefix = str(self.model_config["env_prefix"]).lower()
        variables = {name.lower() for name in environment}
        for name in self.model_fields_set:
            by_variable = prefix + name in variables
            self._sources[name] = (
                "flag" if name in flags else "environment" if by_variable else "file"
            )

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
    def _has_a_certificate_to_the_key(self) -> Self:
        if self.etcd_key is not None and self.etcd_cert is None:
            raise ValueError("--etcd-key goes with --etcd-cert")
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
        tables = {kind.command: frozenset(kind.model_fields) for kind in _commands(ClusterSettings)}
        file = FileSource(settings_cls, path, tables, cls.file_tables())
        return init_settings, env_settings, file

    @classmethod
    def file_tables(cls) -> dict[str, frozenset[str]]:
        """The tables of the settings file that apply to this class, and which of their settings do. Later ones win."""
        return {cls.command: frozenset(cls.model_fields)}


def _commands(kind: type[ClusterSettings]) -> Iterator[type[ClusterSettings]]:
    """`kind` and what is made of it, as far as it is the settings of a command."""
    if kind.command:
        yield kind
    for made_of_it in kind.__subclasses__():
        yield from _commands(made_of_it)
