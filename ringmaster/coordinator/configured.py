"""From a process's settings to its coordinator."""

from __future__ import annotations

from ringmaster.config.settings import ClusterSettings
from ringmaster.coordinator import Coordinator
from ringmaster.coordinator.engines import open_coordinator
from ringmaster.coordinator.etcd import EtcdOptions


def configured_coordinator(settings: ClusterSettings) -> Coordinator:
    """The engine that the settings name; nothing is contacted before its first call. Raises `SettingsError`."""
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
