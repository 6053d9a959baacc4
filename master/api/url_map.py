"""The routes: which path and method goes to which handler."""

from __future__ import annotations

from master.api.application import Endpoint, Routes
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
        "GET": Endpoint(data.get),
        "POST": Endpoint(data.post, write=True),
        "PUT": Endpoint(data.put, write=True),
        "DELETE": Endpoint(data.delete, write=True),
    }
    return Routes(
        exact={
            "/data": one_entry,
            "/data/bulk": {"POST": Endpoint(bulk.write, write=True)},
            "/data/bulk/get": {"POST": Endpoint(bulk.read)},
            "/data/bulk/delete": {"POST": Endpoint(bulk.delete, write=True)},
            "/cluster": {"GET": Endpoint(cluster.show)},
            "/cluster/locate": {"GET": Endpoint(cluster.locate)},
            "/cluster/events": {"GET": Endpoint(events.stream)},
            "/cluster/rebalance/pause": {"POST": Endpoint(cluster.pause, write=True)},
            "/cluster/rebalance/resume": {"POST": Endpoint(cluster.resume, write=True)},
            "/snapshots": {
                "GET": Endpoint(snapshots.show),
                "POST": Endpoint(snapshots.create, write=True),
            },
            "/healthz": {"GET": Endpoint(health.healthz)},
            "/readyz": {"GET": Endpoint(health.readyz)},
            "/metrics": {"GET": Endpoint(health.metrics)},
            "/openapi.json": {"GET": Endpoint(docs.openapi)},
            "/docs": {"GET": Endpoint(docs.docs)},
            "/": {"GET": Endpoint(docs.console)},
        },
        prefixes={"/data/": one_entry, "/cluster/locate/": {"GET": Endpoint(cluster.locate)}},
        patterns={
            r"/snapshots/[^/]+": {"GET": Endpoint(snapshots.status)},
            _NODE: {"DELETE": Endpoint(cluster.forget, write=True)},
            _NODE + "/drain": {
                "POST": Endpoint(cluster.drain, write=True),
                "DELETE": Endpoint(cluster.undrain, write=True),
            },
        },
    )
