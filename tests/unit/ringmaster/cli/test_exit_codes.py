"""Exit codes: each means the same everywhere, and the documents say so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ringmaster.cli.app import app
from ringmaster.cli.exit_codes import EXIT_CODES, NO, UNAVAILABLE, USAGE, exit_code_of
from ringmaster.errors import (
    BadRequest,
    CoordinatorUnavailable,
    LinkDown,
    OutcomeUnknown,
    RingmasterError,
    SettingsError,
    TokenRefused,
    Unserved,
)
from tests.fakes.http_cluster import STATUS, FakeCluster

CLIENTS = Path(__file__).parents[4] / "docs" / "clients.md"


def test_the_document_has_the_table() -> None:
    table = CLIENTS.read_text().partition("| exit code | meaning |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\d+) \| (.*?)[|:;(]", table, re.MULTILINE)
    assert {int(code): text.strip() for code, text in rows} == EXIT_CODES


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadRequest("x"), USAGE),
        (SettingsError("x"), USAGE),
        (TokenRefused("x"), USAGE),
        (LinkDown("x"), UNAVAILABLE),
        (Unserved("x"), UNAVAILABLE),
        (OutcomeUnknown("x"), UNAVAILABLE),
        (CoordinatorUnavailable("x"), UNAVAILABLE),
    ],
)
def test_a_mistake_differs_from_an_outage(error: RingmasterError, code: int) -> None:
    assert exit_code_of(error) == code


@pytest.mark.parametrize(
    ("health", "code"), [("ok", 0), ("recovering", 0), ("degraded", NO), ("down", NO), (None, NO)]
)
def test_status_says_by_its_exit_code_whether_somebody_should_look_if_asked_to(
    health: Any, code: int
) -> None:
    with FakeCluster() as cluster:
        environment = {"RINGMASTER_URL": cluster.url}
        cluster.next_replies += [(200, {**STATUS, "health": health})] * 2
        assert CliRunner().invoke(app, ["status", "--check"], env=environment).exit_code == code
        assert CliRunner().invoke(app, ["status"], env=environment).exit_code == 0
