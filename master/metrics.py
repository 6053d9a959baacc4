"""What a master tells Prometheus: read from plain integers when somebody asks, kept nowhere."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from master.api.cluster_watch import ClusterWatch
from master.api.events import ViewEvents
from master.api.summary import NODE_STATES, summarize
from master.audit.findings import Findings
from master.fastpath.overload import Overload
from master.http.limits import BodyBudget
from master.http.rate_limits import RateLimits
from master.http.request_counters import BOUNDS_S, SHED, Counters, Series
from master.runtime import MasterRuntime
from master.token_watch import TokenWatch
from ringmaster.net.admission import Admission
from ringmaster.net.link import CLOSED, HALF_OPEN, OPEN
from ringmaster.runtime.clock import Clock


class MasterCollector:
    """`connections()`: how many clients are connected. `overload()`: what refuses requests. `findings`: of the self-audit, None without it."""

    def __init__(
        self,
        *,
        counters: Counters,
        runtime: MasterRuntime,
        cluster_watch: ClusterWatch,
        events: ViewEvents,
        budget: BodyBudget,
        tokens: TokenWatch | None,
        clock: Clock,
        connections: Callable[[], int],
        admission: Admission,
        overload: Callable[[], Overload],
        rates: RateLimits,
        findings: Findings | None = None,
    ) -> None:
        self._counters = counters
        self._runtime = runtime
        self._cluster_watch = cluster_watch
        self._events = events
        self._budget = budget
        self._tokens = tokens
        self._clock = clock
        self._connections = connections
        self._admission = admission
        self._overload = overload
        self._rates = rates
        self._findings = findings

    def collect(self) -> Iterator[Metric]:
        """Everything, from one turn of the loop."""
        yield from request_metrics(list(self._counters))
        hits, misses = self._counters.hits, self._counters.misses
        yield CounterMetricFamily("ringmaster_hits", "Values read that were there.", value=hits)
        yield CounterMetricFamily("ringmaster_misses", "Values read that were not.", value=misses)
        yield _gauge("connections", "Clients connected.", self._connections())
        refused = CounterMetricFamily(
            "ringmaster_refused_connections",
            "Connections that were answered 503 and closed, by the cap that was reached.",
            labels=["cap"],
        )
        for cap, count in self._admission.refused.items():
            refused.add_metric([cap], count)
        yield refused
        yield from self._overload_metrics()
        yield from self._rate_metrics()
        yield _gauge("event_streams", "Subscribers of /cluster/events.", self._events.subscribers)
        yield _gauge("buffered_bytes", "Request bodies in memory.", self._budget.used)
        yield CounterMetricFamily(
            "ringmaster_evicted_bodies",
            "Bodies that came too slowly and gave up their place in memory.",
            value=self._budget.evicted,
        )
        yield from self._link_metrics()
        yield _gauge("is_controller", "1 if this is the controller.", self._runtime.is_controller)
        yield _gauge(
            "coordinator_up", "1 if the coordinator answers.", self._cluster_watch.available
        )
        yield from self._copy_metrics()
        yield from self._token_metrics()
        yield from self._audit_metrics()
        yield from self._view_metrics()

    def _copy_metrics(self) -> Iterator[Metric]:
        copies = self._runtime.router.copies
        yield _gauge("copies", "Entries of which this master has a copy.", len(copies.held))
        yield _gauge("copies_bytes", "What they take.", copies.bytes)
        for name, text, value in (
            ("hits", "Reads answered from copies.", copies.hits),
            ("given", "Copies that nodes gave.", copies.given),
            ("dropped", "Copies that nodes asked back.", copies.dropped),
        ):
            yield CounterMetricFamily(f"ringmaster_copies_{name}", text, value=value)

    def _overload_metrics(self) -> Iterator[Metric]:
        overload = self._overload()
        yield CounterMetricFamily(
            "ringmaster_shed_requests",
            "Requests that were answered 503 at once because others waited too long.",
            value=overload.refused,
        )
        yield _gauge("shedding", "1 while requests may be refused so.", overload.active)
        yield _gauge(
            "least_wait_seconds",
            "The least time that any request took in the last tenth of a second in which one was answered.",
            overload.shedding.least_wait_s,
        )
        yield _gauge(
            "front_wait_seconds",
            "How long requests wait in nginx and here, by the connections it uses; 0.05 is as much as is ever found.",
            overload.front.wait_s,
        )
        yield _gauge(
            "front_refused_part",
            "The part of the requests through nginx that is refused for it.",
            overload.front.part if overload.front.active else 0.0,
        )
        yield _gauge("in_flight_requests", "Requests without a reply.", overload.in_flight)
        yield _gauge(
            "held_connections",
            "Clients that are not read for a moment: they were refused and asked again at once.",
            overload.held,
        )

    def _link_metrics(self) -> Iterator[Metric]:
        router = self._runtime.router
        links = [router.link_of(node) for node in self._nodes()]
        circuits = Counter(OPEN if link is None else link.circuit for link in links)
        yield _gauge("links", "Nodes of the view that are up.", len(links))
        yield _gauge(
            "links_up", "Those among them that this master is connected to.", circuits[CLOSED]
        )
        states = GaugeMetricFamily(
            "ringmaster_circuits",
            "Nodes of the view that are up, by this master's circuit to them.",
            labels=["state"],
        )
        for state in (CLOSED, HALF_OPEN, OPEN):
            states.add_metric([state], circuits[state])
        yield states
        connects = CounterMetricFamily(
            "ringmaster_node_connects", "Attempts to connect to nodes.", labels=["result"]
        )
        connects.add_metric(["ok"], router.connects.attempts - router.connects.failures)
        connects.add_metric(["failed"], router.connects.failures)
        yield connects
        retries = CounterMetricFamily(
            "ringmaster_retries",
            "Requests that were sent to a node again: after a sign that it may help, or paid for from the node's budget.",
            labels=["after"],
        )
        retries.add_metric(["sign"], router.retries.after_sign)
        retries.add_metric(["pause"], router.retries.after_pause)
        yield retries
        yield CounterMetricFamily(
            "ringmaster_retries_put_off",
            "How often a request that was to be sent again found its node's budget used up.",
            value=router.retries.put_off,
        )

    def _rate_metrics(self) -> Iterator[Metric]:
        rates = self._rates
        limited = CounterMetricFamily(
            "ringmaster_rate_limited_requests",
            "Requests answered 429, by the limit that they were above.",
            labels=["limit"],
        )
        for limit, count in rates.refused.items():
            limited.add_metric([limit], count)
        yield limited
        yield _gauge("rate_limit_addresses", "Client addresses with a bucket.", rates.addresses)
        yield CounterMetricFamily(
            "ringmaster_rate_limit_forgotten",
            "Addresses that had used some of their quota when they were forgotten, for want of room.",
            value=rates.forgotten,
        )

    def _token_metrics(self) -> Iterator[Metric]:
        tokens = self._tokens
        if tokens is None:
            return
        reloads = CounterMetricFamily(
            "ringmaster_token_reloads",
            "How often the tokens file was read again, and whether it could be used.",
            labels=["result"],
        )
        reloads.add_metric(["ok"], tokens.reloads)
        reloads.add_metric(["failed"], tokens.failures)
        yield reloads

    def _audit_metrics(self) -> Iterator[Metric]:
        findings = self._findings
        if findings is None:
            return
        for name, text, value in (
            ("stale", "Reads of the self-audit that showed an older value.", findings.stale),
            ("lost", "Acknowledged writes of the self-audit that were gone.", findings.lost),
            (
                "unavailable_seconds",
                "Time in which the self-audit was not served within the deadline.",
                findings.unavailable_s,
            ),
        ):
            yield CounterMetricFamily(f"ringmaster_audit_{name}", text, value=value)
        operations = CounterMetricFamily(
            "ringmaster_audit_operations",
            "Reads and writes of the self-audit, by how they ended.",
            labels=["kind", "outcome"],
        )
        for (kind, outcome), count in findings.operations.items():
            operations.add_metric([kind, outcome], count)
        yield operations

    def _nodes(self) -> list[str]:
        return [node.id for node in self._runtime.view.nodes.values() if node.up]

    def _view_metrics(self) -> Iterator[Metric]:
        view = self._runtime.view
        age_s = self._clock.boottime() - self._runtime.view_since
        yield _gauge("view_age_seconds", "Since the view changed.", age_s)
        yield _gauge("epoch", "Epoch of the view.", view.epoch)
        nodes = GaugeMetricFamily("ringmaster_nodes", "Nodes by state.", labels=["state"])
        summary = summarize(
            view,
            self._runtime.statuses(),
            masters=(),
            controller=None,
            coordinator_available=self._cluster_watch.available,
            eta_s=None,
        )
        states = Counter(row.state for row in summary.nodes)
        for state in NODE_STATES:
            nodes.add_metric([state], states[state])
        yield nodes
        without = sum(row.primary is None for row in view.table)
        yield _gauge("partitions", "Partitions of the cluster.", view.partitions)
        yield _gauge("partitions_without_primary", "Partitions nobody serves.", without)
        yield _gauge(
            "under_replicated_partitions",
            "Partitions with fewer copies in sync than there should be.",
            summary.under_replicated,
        )
        yield _gauge(
            "rebalance_moving", "Copies being filled or handed over.", summary.rebalance.moving
        )


class Exposition:
    """Renders the metrics of one master. Its registry is its own; nothing is global."""

    def __init__(self, collector: MasterCollector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def __call__(self) -> tuple[bytes, str]:
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


def request_metrics(series: list[Series]) -> Iterator[Metric]:
    """Requests by method and status class, latencies by method and outcome."""
    requests: Counter[tuple[str, str]] = Counter()
    buckets: dict[tuple[str, str], list[int]] = {}
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for each in series:
        requests[each.method, each.status_class] += each.count
        if each.outcome == SHED:
            # Those were refused before anything was done: how long others take would seem short beside them.
            continue
        known = buckets.setdefault((each.method, each.outcome), [0] * len(each.buckets))
        for index, count in enumerate(each.buckets):
            known[index] += count
        seconds[each.method, each.outcome] += each.sum_s
    total = CounterMetricFamily(
        "ringmaster_requests", "Requests answered.", labels=["method", "status"]
    )
    for (method, status), count in sorted(requests.items()):
        total.add_metric([method, status], count)
    yield total
    latency = HistogramMetricFamily(
        "ringmaster_request_seconds",
        "Time from the arrival of a request's head to its reply.",
        labels=["method", "outcome"],
    )
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    for (method, outcome), counts in sorted(buckets.items()):
        running, cumulative = 0, []
        for bound, count in zip(bounds, counts, strict=True):
            running += count
            cumulative.append((bound, running))
        latency.add_metric([method, outcome], cumulative, seconds[method, outcome])
    yield latency


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ringmaster_{name}", text, value=value)
