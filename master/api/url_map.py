"""The routes: which path and method goes to which handler."""

from __future__ import annotations

from master.api.application import Route, Routes
from master.api.bulk import BulkApi
from master.api.cluster import ClusterApi
from master.api.data import DataApi
from master.api.docs import DocsApi
from master.api.events import ViewEvents
from master.api.health import HealthApi
from master.api.snapshots import SnapshotsApi

_NODE = r"/cluster/nodes/[^/]+"


def routes(
    data: DataApi,
    bulk: BulkApi,
    cluster: ClusterApi,
    events: ViewEvents,
    health: HealthApi,
    docs: DocsApi,
    snapshots: SnapshotsApi,
) -> Routes:
    """`/data/bulk` and the like are bulk requests for POST alone; for every other method they are keys."""
    one_entry = {
        "GET": Route(data.get),
        "POST": Route(data.post, write=True),
        "PUT": Route(data.put, write=True),
        "DELETE": Route(data.delete, write=True),
    }
    return Routes(
        exact={
            "/data": one_entry,
            "/data/bulk": {"POST": Route(bulk.write, write=True)},
            "/data/bulk/get": {"POST": Route(bulk.read)},
            "/data/bulk/delete": {"POST": Route(bulk.delete, write=True)},
            "/cluster": {"GET": Route(cluster.show)},
            "/cluster/locate": {"GET": Route(cluster.locate)},
            "/cluster/events": {"GET": Route(events.stream)},
            "/cluster/rebalance/pause": {"POST": Route(cluster.pause, write=True)},
            "/cluster/rebalance/resume": {"POST": Route(cluster.resume, write=True)},
            "/snapshots": {
                "GET": Route(snapshots.show),
                "POST": Route(snapshots.create, write=True),
            },
            "/healthz": {"GET": Route(health.healthz)},
            "/readyz": {"GET": Route(health.readyz)},
            "/metrics": {"GET": Route(health.metrics)},
            "/openapi.json": {"GET": Route(docs.openapi)},
            "/docs": {"GET": Route(docs.docs)},
            "/": {"GET": Route(docs.console)},
        },
        prefixes={"/data/": one_entry, "/cluster/locate/": {"GET": Route(cluster.locate)}},
        patterns={
            r"/snapshots/[^/]+": {"GET": Route(snapshots.status)},
            _NODE: {"DELETE": Route(cluster.forget, write=True)},
            _NODE + "/drain": {
                "POST": Route(cluster.drain, write=True),
                "DELETE": Route(cluster.undrain, write=True),
            },
        },
    )
