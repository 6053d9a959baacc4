"""`/cluster/settings`: what it says, and what it refuses before anything changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from master.api.settings import check_memory, checked_changes
from master.api.settings_summary import summarize_settings
from master.http.limits import Limits
from ringmaster.cluster.registration import MasterRow
from ringmaster.cluster.runtime_settings import RuntimeSettings, SettingsReport
from ringmaster.config.sources import Started
from ringmaster.errors import BadRequest
from tests.conformance.raw_http import Connection, Response
from tests.fakes.master import FakeMaster

TARGET = "/cluster/settings"


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, Limits()).running() as running:
        yield running


def ask(master: FakeMaster, method: str = "GET", body: Any = None, **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    with Connection(master.address) as connection:
        return connection.request(method, TARGET, fields, raw)


def rows(reply: Response) -> dict[str, dict[str, Any]]:
    assert reply.status == 200, reply.body
    return {row["name"]: row for row in reply.json()["settings"]}


def test_a_patch_sets_and_takes_back_and_says_what_holds_then(master: FakeMaster) -> None:
    reply = ask(master, "PATCH", {"max_fills": 8, "shed_after": "20ms"})
    assert rows(reply)["max_fills"] | {"description": ""} == {
        "name": "max_fills", "value": 8, "source": "run time", "started": 128,
        "applies_to": "masters", "unit": "copies", "minimum": 1, "maximum": 4096,
        "choices": [], "description": "", "differing": {},
    }  # fmt: skip
    assert reply.get("ETag") == f'"{reply.json()["version"]}"'
    after = ask(master, "PATCH", {"max_fills": None})
    assert after.json()["changed"] == {"shed_after": 0.02}
    assert rows(after)["max_fills"]["source"] == "default"
    assert ask(master).json() == after.json()


def test_a_condition_keeps_two_that_change_at_once_apart(master: FakeMaster) -> None:
    seen = ask(master).get("ETag") or ""
    assert ask(master, "PATCH", {"max_fills": 8}, If_Match=seen).status == 200
    late = ask(master, "PATCH", {"max_fills": 9}, If_Match=seen)
    assert late.status == 412
    assert late.get("ETag") == ask(master).get("ETag")
    assert (
        ask(master, "PATCH", {"max_fills": 9}, If_Match="W/" + (late.get("ETag") or "")).status
        == 412
    )
    assert ask(master, "PATCH", {"max_fills": 9}, If_Match="fresh").status == 400
    assert ask(master).json()["changed"] == {"max_fills": 8}
    assert ask(master, "PATCH", {"max_fills": 9}, If_Match="*").status == 200


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"", "JSON object such as"),
        (b"[]", "of settings and their values"),
        (b"max_fills=8", "JSON object such as"),
        (b'{"max_fills":8,"max_fills":9}', "more than once"),
        (b'{"shed_after":NaN}', "NaN is no JSON number"),
        (b"[" * 60_000, "JSON object such as"),
        (b'{"max_fills":' + b"9" * 5000 + b"}", "JSON object such as"),
        ({"replicas": 3}, "there are max_memory, eviction"),
        ({"max_fills": "many"}, "from 1 to 4,096"),
        ({"max_fills": 8, "log_level": "loud"}, "debug, info, warning, error"),
        ({"max_fills": True}, "true or false"),
    ],
)
def test_a_bad_patch_says_how_to_do_it_right_and_changes_nothing(
    master: FakeMaster, body: Any, hint: str
) -> None:
    reply = ask(master, "PATCH", body)
    assert reply.status == 400
    assert hint in reply.json()["detail"]
    assert ask(master).json()["changed"] == {}


def test_every_mistake_is_named() -> None:
    with pytest.raises(BadRequest) as refused:
        checked_changes(b'{"a":1,"max_fills":0,"log_level":null,"eviction":"x"}')
    assert all(name in str(refused.value) for name in ("'a'", "max_fills:", "eviction:"))


def test_other_kinds_of_patches_are_415_and_the_right_ones_are_named(master: FakeMaster) -> None:
    reply = ask(master, "PATCH", b"[]", Content_Type="application/json-patch+json")
    assert reply.status == 415
    assert reply.get("Accept-Patch") == "application/merge-patch+json, application/json"
    for kind in ("application/merge-patch+json", "application/json; charset=utf-8"):
        assert ask(master, "PATCH", {"max_fills": 8}, Content_Type=kind).status == 200


def test_the_audit_log_says_what_was_asked_for(master: FakeMaster) -> None:
    ask(master, "PATCH", {"max_fills": 8, "log_level": None})
    ask(master, "PATCH", {"max_fills": 0})
    done, refused = master.audited
    assert (done["change"], done["outcome"]) == ("settings", "done")
    assert done["changed"] == {"max_fills": 8, "log_level": None}
    assert refused["outcome"] == "refused"


def test_the_short_form_for_the_policy_is_the_same_request(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        assert connection.request("PUT", "/cluster/eviction/sieve", [], b"").status == 204
    assert ask(master).json()["changed"] == {"eviction": "sieve"}


def test_more_memory_than_a_machine_has_is_refused() -> None:
    reports = {
        "aux1": SettingsReport(id="aux1", version=0, started={}, memory_bytes=10**9),
        "aux2": None,
        "aux3": SettingsReport(id="aux3", version=0, started={}),
    }
    check_memory({"max_memory": 10**9}, reports)
    check_memory({"max_memory": None}, reports)
    with pytest.raises(BadRequest, match="2GB is more than aux1 has"):
        check_memory({"max_memory": 2 * 10**9}, reports)


def test_processes_that_differ_are_named_and_so_are_those_that_do_not_follow() -> None:
    def report(node: str, memory: int, version: int, source: str) -> SettingsReport:
        started = {"max_memory": Started(memory, source), "log_level": Started("info", "default")}
        return SettingsReport(id=node, version=version, started=started)

    own = {"log_level": Started("debug", "flag"), "max_fills": Started(128, "default")}
    masters = [
        MasterRow(id="master1", address="", settings=4),
        MasterRow(id="of-an-older-version", address=""),
    ]
    found = summarize_settings(
        RuntimeSettings(version=4, values={"max_fills": 8}),
        version="v",
        epoch=7,
        own=own,
        nodes={
            "aux1": report("aux1", 1, 4, "flag"),
            "aux2": report("aux2", 2, 3, "file"),
            "aux3": None,
        },
        masters=masters,
        master_id="master1",
    )
    by_name = {row.name: row for row in found.settings}
    memory = by_name["max_memory"]
    assert (memory.value, memory.source, memory.differing) == (
        None,
        "mixed",
        {"aux1": 1, "aux2": 2},
    )
    assert by_name["log_level"].differing == {"aux1": "info", "aux2": "info", "master1": "debug"}
    assert (by_name["max_fills"].value, by_name["max_fills"].source) == (8, "run time")
    assert by_name["eviction"].source == "unknown"
    assert {p.id: p.follows for p in found.processes} == {
        "aux1": True, "aux2": False, "aux3": None, "master1": True, "of-an-older-version": None,
    }  # fmt: skip
    assert not found.followed
