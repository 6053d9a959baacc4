"""The routes: which path and method goes to which handler."""

from __future__ import annotations

from typing import Final

from master.api.advice import AdviceApi
from master.api.application import Endpoint, Handler, Routes
from master.api.bulk import BulkApi
from master.api.cluster import ClusterApi
from master.api.data import DataApi
from master.api.docs import DocsApi
from master.api.events import ViewEvents
from master.api.evictions import EvictionsApi
from master.api.health import HealthApi
from master.api.hot_keys import HotKeysApi
from master.api.locate import LocateApi
from master.api.partition_map import PartitionsApi
from master.api.settings import SettingsApi
from master.api.snapshots import SnapshotsApi
from master.api.traffic import TrafficApi

OPEN: Final = ""
READ: Final = "read"
WRITE: Final = "write"
ADMIN: Final = "admin"
METRICS: Final = "metrics"

_NODE = r"/cluster/nodes/[^/]+"


def routes(
    data: DataApi,
    bulk: BulkApi,
    cluster: ClusterApi,
    events: ViewEvents,
    health: HealthApi,
    docs: DocsApi,
    snapshots: SnapshotsApi,
    advice: AdviceApi,
    hot_keys: HotKeysApi,
    evictions: EvictionsApi,
    locate: LocateApi,
    partitions: PartitionsApi,
    traffic: TrafficApi,
    settings: SettingsApi,
) -> Routes:
    """`/data/bulk` and the like are bulk requests for POST alone; for every other method they are keys."""
    one_entry = {
        "GET": Endpoint(data.get, READ),
        "POST": Endpoint(data.post, WRITE, write=True),
        "PUT": Endpoint(data.put, WRITE, write=True),
        "DELETE": Endpoint(data.delete, WRITE, write=True),
    }
    return Routes(
        exact={
            "/data": one_entry,
            "/data/bulk": {"POST": Endpoint(bulk.write, WRITE, write=True)},
            "/data/bulk/get": {"POST": Endpoint(bulk.read, READ)},
            "/data/bulk/delete": {"POST": Endpoint(bulk.delete, WRITE, write=True)},
            "/cluster": {"GET": Endpoint(cluster.show, READ)},
            "/cluster/locate": {"GET": Endpoint(locate.show, READ)},
            "/cluster/partitions": {"GET": Endpoint(partitions.show, READ)},
            "/cluster/traffic": {"GET": Endpoint(traffic.show, READ)},
            "/cluster/advice": {"GET": Endpoint(advice.show, READ)},
            "/cluster/hotkeys": {"GET": Endpoint(hot_keys.show, READ)},
            "/cluster/evictions": {"GET": Endpoint(evictions.show, READ)},
            "/cluster/settings": {
                "GET": Endpoint(settings.show, READ),
                "PATCH": _change(settings.change, "settings"),
            },
            "/cluster/events": {"GET": Endpoint(events.stream, READ)},
            "/cluster/rebalance/pause": {"POST": _change(cluster.pause, "pause")},
            "/cluster/rebalance/resume": {"POST": _change(cluster.resume, "resume")},
            "/snapshots": {
                "GET": Endpoint(snapshots.show, ADMIN),
                "POST": _change(snapshots.create, "snapshot"),
            },
            "/healthz": {"GET": Endpoint(health.healthz, OPEN)},
            "/readyz": {"GET": Endpoint(health.readyz, OPEN)},
            "/metrics": {"GET": Endpoint(health.metrics, METRICS)},
            "/openapi.json": {"GET": Endpoint(docs.openapi, READ)},
            "/docs": {"GET": Endpoint(docs.docs, READ)},
            "/": {"GET": Endpoint(docs.console, OPEN)},
        },
        prefixes={"/data/": one_entry, "/cluster/locate/": {"GET": Endpoint(locate.show, READ)}},
        patterns={
            r"/snapshots/[^/]+": {"GET": Endpoint(snapshots.status, ADMIN)},
            r"/cluster/eviction/[^/]+": {"PUT": _change(settings.set_eviction, "eviction")},
            _NODE: {"DELETE": _change(cluster.forget, "forget")},
            _NODE + "/drain": {
                "POST": _change(cluster.drain, "drain"),
                "DELETE": _change(cluster.undrain, "undrain"),
            },
        },
    )


def _change(handler: Handler, name: str) -> Endpoint:
    """Of the cluster: the administrator's, and kept in the audit log."""
    return Endpoint(handler, ADMIN, write=True, change=name)
