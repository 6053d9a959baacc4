"""What a load test prints when it is over: one screen."""

from __future__ import annotations

from typing import Any, Final

from locust.stats import RequestStats, StatsEntry

from load_test.timeline import Timeline

PERCENTILES: Final = (0.5, 0.95, 0.99, 1.0)


def render(stats: RequestStats, timeline: Timeline) -> str:
    """Throughput, response times in milliseconds, hit ratio and failures, as text."""
    total = stats.total
    ratio = timeline.hit_ratio()
    rate = "no key was read" if ratio is None else f"{ratio:.2%}"
    lines = [
        f"{'request':<28}{'count':>10}{'per s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}{'failed':>8}",
        *(_line(entry) for entry in _sorted(stats)),
        _line(total),
        "",
        f"throughput  {total.total_rps:,.0f} requests/s over {duration_s(total):.1f} s, no think time",
        f"hit ratio   {rate} ({timeline.hits:,} hits, {timeline.misses:,} misses; keys of bulk requests included)",
        f"failures    {total.num_failures:,} of {total.num_requests:,}",
    ]
    lines += [
        f"            {error['count']:,} x {error['name']}: {error['error']}"
        for error in errors(stats)[:5]
    ]
    return "\n".join(lines) + "\n"


def requests(stats: RequestStats) -> list[dict[str, Any]]:
    """One row a kind of request, the sum of all last. Times in milliseconds."""
    return [
        {
            "name": _name(entry),
            "count": entry.num_requests,
            "per_s": entry.total_rps,
            "ms": [entry.get_response_time_percentile(share) for share in PERCENTILES],
            "failures": entry.num_failures,
        }
        for entry in [*_sorted(stats), stats.total]
    ]


def errors(stats: RequestStats) -> list[dict[str, Any]]:
    """What failed and how often, most often first."""
    return [
        {"count": error.occurrences, "name": error.name, "error": str(error.error)}
        for error in sorted(stats.errors.values(), key=lambda each: -each.occurrences)
    ]


def duration_s(entry: StatsEntry) -> float:
    """From the start to the last reply."""
    if entry.last_request_timestamp is None:
        return 0.0
    return float(entry.last_request_timestamp - entry.start_time)


def _sorted(stats: RequestStats) -> list[StatsEntry]:
    return sorted(stats.entries.values(), key=lambda entry: entry.name)


def _name(entry: StatsEntry) -> str:
    return "all" if entry.name == "Aggregated" else str(entry.name)


def _line(entry: StatsEntry) -> str:
    times = "".join(f"{entry.get_response_time_percentile(share):>9.0f}" for share in PERCENTILES)
    return f"{_name(entry):<28}{entry.num_requests:>10,}{entry.total_rps:>9,.0f}{times}{entry.num_failures:>8,}"
