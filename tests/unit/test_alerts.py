"""Each alert is tested by promtool's rules, and has a line of what to do. (That the rules hold: tests/e2e/test_alerts.py.)"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "prometheus" / "alerts.yml").read_text()
RULE_TESTS = (ROOT / "prometheus" / "alerts_test.yml").read_text()
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES, re.MULTILINE)
ROWS = {
    cells[1].strip(" `"): [cell.strip() for cell in cells[2:-1]]
    for line in (ROOT / "docs" / "operations.md").read_text().splitlines()
    if (cells := line.split("|"))[1:] and cells[1].strip().startswith("`Ringmaster")
}


def cases_of(name: str) -> list[str]:
    """What each test of the alert says after its name."""
    return re.findall(rf"alertname: {name}\b(.*?)(?=alertname:|- name:|\Z)", RULE_TESTS, re.DOTALL)


def test_there_are_alerts_and_their_names_are_their_own() -> None:
    assert len(ALERTS) > 10
    assert len(set(ALERTS)) == len(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_promtool_has_it_fire_and_keep_silent(name: str) -> None:
    cases = cases_of(name)
    assert any("exp_alerts" in case for case in cases)
    assert any("exp_alerts" not in case for case in cases)


@pytest.mark.parametrize("name", ALERTS)
def test_operators_are_told_what_it_means_what_to_look_at_and_what_to_do(name: str) -> None:
    assert name in ROWS, f"docs/operations.md has no row for {name}"
    meaning, look_at, do = ROWS[name]
    # "As above" is an answer; no answer is none.
    assert min(map(len, (meaning, look_at, do))) >= len("as above")


def test_no_row_is_of_an_alert_that_is_gone() -> None:
    assert set(ROWS) == set(ALERTS)


@pytest.mark.parametrize("rule", re.split(r"(?m)^ +- alert: ", RULES)[1:], ids=ALERTS)
def test_it_says_how_bad_it_is_and_sums_itself_up(rule: str) -> None:
    assert re.search(r"labels: \{severity: (critical|warning)\}", rule)
    assert "summary:" in rule
