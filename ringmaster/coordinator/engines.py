"""From a setting to an engine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from ringmaster.coordinator import Coordinator
from ringmaster.coordinator.etcd import EtcdCoordinator, EtcdOptions
from ringmaster.coordinator.sqlite import SqliteCoordinator
from ringmaster.errors import SettingsError


def open_coordinator(
    url: str, directory: Path, lease_directory: Path | None = None, etcd: EtcdOptions | None = None
) -> Coordinator:
    """The engine that `url` names; nothing is contacted before its first call. Raises `SettingsError`.

    `sqlite`: files in `directory`; `sqlite:/path`: there. Leases in `lease_directory`, or beside them.
    `etcd://host:2379,host2:2379`: plain HTTP; `etcds://…`, or with a CA or certificate in the options: TLS.
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
            f"coordinator {url!r}: {host!r} is not host:port (user and password are settings of their own)"
        )
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{scheme}://{name}:{port}"
