"""The figures of a load test, their comparison, and the page."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from load_test import report
from load_test.figures import (
    Figures,
    aftermath,
    compare,
    comparison,
    differences,
    figures_of,
    node_rates,
    node_values,
    per_second,
    run_before,
    spread,
    view_changes,
)
from load_test.timeline import Timeline, percentile, rounded_ms


def node(name: str, reads: int, state: str = "up") -> dict[str, Any]:
    return {
        "id": name, "state": state, "hits": reads, "misses": 0,
        "entries": 5, "bytes": 1 << 20, "primaries": 512,
    }  # fmt: skip


def a_run(started: float = 1000.0, per_s: int = 100, **more: Any) -> dict[str, Any]:
    """Ten seconds with as many requests each, of 2 ms, of which in the sixth second one fails."""
    timeline = Timeline()
    for second in range(10):
        for number in range(per_s):
            failed = second == 5 and number == 0
            timeline.request(started + second, 80.0 if failed else 2.0, failed=failed)
        timeline.looked_up(started + second, hits=9, misses=1)
    return {
        "format": 1, "started": started, "duration_s": 10.0, "host": "http://h", "scenario": "mixed",
        "options": {"users": 4, "keys": 10}, "seconds": timeline.rows(), "cluster": [],
        "events": [], "trouble": "", "requests": [], "errors": [],
    } | more  # fmt: skip


def test_times_are_kept_with_two_digits() -> None:
    assert [rounded_ms(ms) for ms in (0.04, 3.14, 12.3, 128.0, 4567.0)] == [0, 3.1, 12, 130, 4600]


def test_a_percentile_is_the_time_within_which_so_many_ended() -> None:
    times = Counter({1.0: 50, 2.0: 49, 300.0: 1})
    assert [percentile(times, share) for share in (0.5, 0.99, 1.0)] == [1, 2, 300]
    assert percentile(Counter(), 0.5) == 0


def test_what_workers_counted_adds_up_and_survives_json() -> None:
    one, two, both = Timeline(), Timeline(), Timeline()
    one.request(7.2, 3.0, failed=False)
    two.request(7.9, 3.0, failed=True)
    two.looked_up(8.1, hits=1, misses=3)
    both.add(json.loads(json.dumps(one.take())))
    both.add(json.loads(json.dumps(two.take())))
    assert one.rows() == []
    assert both.rows() == [[7, 2, 1, 0, 0, [(3.0, 2)]], [8, 0, 0, 1, 3, []]]
    assert both.hit_ratio() == 0.25


def test_figures_are_those_of_the_seconds() -> None:
    assert figures_of(a_run()) == Figures(
        requests=1000, duration_s=10.0, per_s=100.0, p50_ms=2.0, p99_ms=2.0, failures=1,
        hit_ratio=0.9,
    )  # fmt: skip


def test_a_comparison_says_what_changed_by_how_many_per_cent() -> None:
    before = Figures(1000, 10, 100, 2.0, 10.0, 0, 0.5)
    now = Figures(1500, 10, 150, 1.0, 10.0, 3, 0.75)
    shown = {change.name: change.shown for change in compare(before, now)}
    assert shown == {
        "requests/s": "+50.0 %", "p50 ms": "-50.0 %", "p99 ms": "+0.0 %",
        "failures": "new", "hit ratio": "+50.0 %",
    }  # fmt: skip
    text = comparison(compare(before, now), "yesterday", ["users was 3"])
    assert text.startswith("against yesterday")
    assert text.endswith("not alike: users was 3\n")


def test_no_key_read_is_no_ratio_to_compare() -> None:
    none = Figures(1, 1, 1, 1, 1, 0, None)
    assert compare(none, none)[-1].shown == ""


def test_the_run_before_is_the_latest_earlier_one_of_the_same_scenario() -> None:
    now = a_run(started=1000)
    runs = {
        "old": a_run(started=100), "last": a_run(started=900), "later": a_run(started=2000),
        "other": a_run(started=950, scenario="bulk"), "itself": now,
    }  # fmt: skip
    found = run_before(runs, now)
    assert found is not None
    assert found[0] == "last"
    assert run_before({}, now) is None


def test_options_that_differ_are_told() -> None:
    other = a_run(options={"users": 8, "keys": 10}, host="http://other")
    assert differences(other, a_run()) == ["host was http://other", "users was 8"]


def test_a_second_without_a_reply_is_a_zero_not_a_gap() -> None:
    run = a_run()
    del run["seconds"][4]
    assert [row.second.requests for row in per_second(run)] == [100] * 4 + [0] + [100] * 5


def test_reads_of_a_node_are_counted_anew_after_its_restart() -> None:
    samples = [
        {"at": 0.0, "nodes": [node("a", 100), node("b", 0)]},
        {"at": 2.0, "nodes": [node("a", 300), node("b", 0, "down")]},
        {"at": 3.0, "nodes": [node("a", 20), node("b", 7)]},
        {"at": 4.0, "nodes": [node("a", 20), node("b", 9)]},
    ]
    rates = node_rates(samples)
    assert rates["a"] == [(2.0, 100.0), (3.0, 20.0), (4.0, 0.0)]
    assert math.isnan(rates["b"][0][1])
    assert rates["b"][1:] == [(4.0, 2.0)]
    assert [at for at, value in node_values(samples, "bytes")["b"] if math.isnan(value)] == [2.0]


def test_balance_is_the_largest_by_the_mean() -> None:
    assert spread([1, 1, 1]) == 1
    assert spread([3, 0, 0]) == 3
    assert spread([]) is None


def test_views_that_follow_others_are_found() -> None:
    samples = [{"at": at, "epoch": epoch} for at, epoch in ((0, 3), (1, 3), (2, 4))]
    assert view_changes(samples) == [(2, 4)]


def test_what_followed_a_kill_is_told() -> None:
    run = a_run(events=[{"at": 1005.5, "text": "a killed (SIGKILL of process 1)"}])
    (found,) = aftermath(run)
    assert (found.at_s, found.before_per_s, found.least_per_s) == (5.5, 100, 100)
    assert (found.slowest_ms, found.failures) == (80, 1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A run, and one before it with half the requests."""
    samples = [
        {"at": 1000.0 + at, "epoch": 3 + at // 6, "health": "ok", "nodes": [node("a", 50 * at)]}
        for at in range(10)
    ]
    runs = {
        "first": a_run(started=500, per_s=50),
        "second": a_run(
            cluster=samples,
            events=[{"at": 1005.0, "text": "a killed (SIGKILL of process 1)"}],
            errors=[{"count": 1, "name": "GET", "error": "<script>"}],
        ),
    }
    for name, run in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(run))
    return tmp_path / "first", tmp_path / "second"


def test_a_report_has_plots_the_kill_and_the_comparison(folders: tuple[Path, Path]) -> None:
    first, second = folders
    assert report.write(first, None) == ""
    text = report.write(second, None)
    assert "against first" in text
    assert "+100.0 %" in text
    told, _, _ = text.partition("against")
    assert told.startswith("5.0 s: a killed (SIGKILL of process 1). Within ten seconds: 1 failures")
    assert (second / "comparison.txt").read_text() == text.removeprefix(told)
    page = (second / "report.html").read_text()
    for name in ("requests", "latency", "hits", "reads-by-node", "memory-by-node"):
        assert f'src="{name}.svg"' in page
        assert (second / f"{name}.svg").stat().st_size > 1000
    assert "a killed" in (second / "requests.svg").read_text()
    assert "5.0 s: a killed" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_run_to_compare_with_can_be_named(folders: tuple[Path, Path]) -> None:
    first, second = folders
    assert "against second" in report.write(first, second)


def test_a_broken_run_beside_it_is_passed_over(folders: tuple[Path, Path]) -> None:
    first, second = folders
    (first / "run.json").write_text("{")
    assert "against" not in report.write(second, None)
