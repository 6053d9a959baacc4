"""Counters as Prometheus sees them."""

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from master.http.request_counters import Counters
from master.metrics import request_metrics


def scraped(counters: Counters) -> dict[str, Metric]:
    class Collector:
        def collect(self) -> list[Metric]:
            return list(request_metrics(list(counters)))

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_requests_are_summed_over_outcomes() -> None:
    counters = Counters()
    for status, outcome in ((200, "hit"), (200, "ok"), (404, "miss"), (503, "error")):
        counters.observe("GET", status, outcome, 0.003)
    counters.observe("BREW", 405, "error", 0.001)
    samples = {
        (sample.labels["method"], sample.labels["status"]): sample.value
        for sample in scraped(counters)["ringmaster_requests"].samples
    }
    assert samples == {
        ("GET", "2xx"): 2,
        ("GET", "4xx"): 1,
        ("GET", "5xx"): 1,
        ("other", "4xx"): 1,
    }


def test_latencies_are_cumulative_histograms_by_outcome() -> None:
    counters = Counters()
    for seconds in (0.0001, 0.003, 0.003, 99.0):
        counters.observe("GET", 200, "hit", seconds)
    counters.observe("GET", 404, "miss", 0.5)
    hits = [
        sample
        for sample in scraped(counters)["ringmaster_request_seconds"].samples
        if sample.labels["outcome"] == "hit"
    ]
    buckets = {
        sample.labels["le"]: sample.value for sample in hits if sample.name.endswith("_bucket")
    }
    assert (buckets["0.0001"], buckets["0.0025"], buckets["0.005"]) == (1, 1, 3)
    assert (buckets["10"], buckets["+Inf"]) == (3, 4)
    assert [sample.value for sample in hits if sample.name.endswith("_count")] == [4]
    assert [round(sample.value, 4) for sample in hits if sample.name.endswith("_sum")] == [99.0061]


def test_nothing_counted_is_nothing_shown() -> None:
    assert scraped(Counters())["ringmaster_requests"].samples == []
