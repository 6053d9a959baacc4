"""What a load test prints when it is over: one screen."""

from __future__ import annotations

from locust.stats import RequestStats, StatsEntry

PERCENTILES = (0.5, 0.95, 0.99, 1.0)


class Items:
    """Keys asked for, by what came of them. A bulk request counts each of its keys."""

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0

    def add(self, hits: int, misses: int) -> None:
        """Counts more of them."""
        self.hits += hits
        self.misses += misses

    def take(self) -> tuple[int, int]:
        """(hits, misses) since the last call; begins again at zero."""
        taken = self.hits, self.misses
        self.hits = self.misses = 0
        return taken

    def ratio(self) -> float | None:
        """Hits among keys asked for; None if none was."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


def render(stats: RequestStats, items: Items) -> str:
    """Throughput, response times in milliseconds, hit ratio and failures, as text."""
    total = stats.total
    ratio = items.ratio()
    rate = "no key was read" if ratio is None else f"{ratio:.2%}"
    lines = [
        f"{'request':<28}{'count':>10}{'per s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}{'failed':>8}",
        *(_line(entry) for entry in sorted(stats.entries.values(), key=lambda entry: entry.name)),
        _line(total),
        "",
        f"throughput  {total.total_rps:,.0f} requests/s over {_duration_s(total):.1f} s, no think time",
        f"hit ratio   {rate} ({items.hits:,} hits, {items.misses:,} misses; keys of bulk requests included)",
        f"failures    {total.num_failures:,} of {total.num_requests:,}",
    ]
    lines += [
        f"            {error.occurrences:,} x {error.name}: {error.error}"
        for error in sorted(stats.errors.values(), key=lambda each: -each.occurrences)[:5]
    ]
    return "\n".join(lines) + "\n"


def _line(entry: StatsEntry) -> str:
    times = "".join(f"{entry.get_response_time_percentile(share):>9.0f}" for share in PERCENTILES)
    name = "all" if entry.name == "Aggregated" else entry.name
    return f"{name:<28}{entry.num_requests:>10,}{entry.total_rps:>9,.0f}{times}{entry.num_failures:>8,}"


def _duration_s(entry: StatsEntry) -> float:
    if entry.last_request_timestamp is None:
        return 0.0
    return float(entry.last_request_timestamp - entry.start_time)
