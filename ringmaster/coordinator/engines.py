"""Opens the coordinator engine that a URL, or a process's settings, ask for."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from ringmaster.config.cluster_settings import ClusterSettings
from ringmaster.coordinator import Coordinator
from ringmaster.coordinator.etcd import EtcdCoordinator, EtcdOptions
from ringmaster.coordinator.sqlite import SqliteCoordinator
from ringmaster.errors import SettingsError


def configured_coordinator(settings: ClusterSettings) -> Coordinator:
    """The engine of `settings`. It opens nothing before its first call. Raises `SettingsError`."""
    etcd = EtcdOptions(
        cluster=settings.etcd_cluster,
        user=settings.etcd_user,
        password=settings.etcd_password,
        ca=settings.etcd_ca,
        certificate=settings.etcd_cert,
        key=settings.etcd_key,
    )
    return open_coordinator(
        settings.coordinator, settings.coordinator_path, settings.lease_path, etcd
    )


def open_coordinator(
    url: str, directory: Path, lease_directory: Path | None = None, etcd: EtcdOptions | None = None
) -> Coordinator:
    """The engine of `url`. It opens nothing before its first call. Raises `SettingsError`.

    `sqlite`: files in `directory`; `sqlite:/path`: files in `/path`; leases in `lease_directory`, by default beside them.
    `etcd://host:2379,host2:2379`: HTTP without TLS. `etcds://…`, or a CA or certificate in `etcd`: with TLS.
    """
    if url == "sqlite":
        return SqliteCoordinator(directory, lease_directory)
    if url.startswith("sqlite:") and len(url) > len("sqlite:"):
        return SqliteCoordinator(Path(url.removeprefix("sqlite:")), lease_directory)
    scheme, _, hosts = url.partition("://")
    if scheme not in {"etcd", "etcds"}:
        raise SettingsError(
            f"coordinator {url!r} is not sqlite, sqlite:/path or etcd://host:2379[,host:2379]"
        )
    options = etcd or EtcdOptions()
    tls = scheme == "etcds" or options.ca is not None or options.certificate is not None
    endpoints = [
        _endpoint(host, "https" if tls else "http", url) for host in hosts.rstrip("/").split(",")
    ]
    return EtcdCoordinator(endpoints, options)


def _endpoint(host: str, scheme: str, url: str) -> str:
    parts = urlsplit(f"{scheme}://{host}")
    try:
        port = parts.port or 2379
    except ValueError as error:
        raise SettingsError(f"coordinator {url!r}: {host!r} has no valid port") from error
    if not parts.hostname or parts.path or parts.username is not None:
        raise SettingsError(
            f"coordinator {url!r}: {host!r} is not host:port (user and password are separate settings)"
        )
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{scheme}://{name}:{port}"
