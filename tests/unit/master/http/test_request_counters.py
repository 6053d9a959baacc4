"""Counting requests."""

from master.http.request_counters import BOUNDS_S, Counters


def test_requests_are_counted_by_method_outcome_and_status_class() -> None:
    counters = Counters()
    counters.observe("GET", 200, "hit", 0.0003)
    counters.observe("GET", 200, "hit", 99.0)
    counters.observe("GET", 404, "miss", 0.0001)
    counters.observe("BREW", 405, "error", 0.1)
    found = {(each.method, each.outcome, each.status_class): each for each in counters}
    assert set(found) == {("GET", "hit", "2xx"), ("GET", "miss", "4xx"), ("other", "error", "4xx")}
    hit = found["GET", "hit", "2xx"]
    assert (hit.count, hit.sum_s) == (2, 99.0003)
    assert hit.buckets[BOUNDS_S.index(0.0005)] == 1
    assert hit.buckets[-1] == 1
    assert found["GET", "miss", "4xx"].buckets[0] == 1
    assert (counters.hits, counters.misses) == (2, 1)


def test_a_series_is_made_once() -> None:
    counters = Counters()
    assert counters.series("GET", "hit", 200) is counters.series("GET", "hit", 206)
