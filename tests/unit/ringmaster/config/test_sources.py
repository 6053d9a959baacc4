"""Where the values come from with which a process was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringmaster.config.settings import AuxSettings, UpSettings, load_settings
from ringmaster.config.sources import SOURCES_VARIABLE, Started, sources_text, started_with


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ringmaster.toml").write_text('snapshot_interval = "5s"\n[up]\nmax_clients = 7\n')
    monkeypatch.setenv("RINGMASTER_MAX_MEMORY", "1GB")


@pytest.mark.usefixtures("sources")
def test_the_first_that_has_one_is_named() -> None:
    found = started_with(load_settings(AuxSettings, rebalance_rate="1MB"), {})
    assert found["max_memory"] == Started(10**9, "environment")
    assert found["rebalance_rate"] == Started(10**6, "flag")
    assert found["snapshot_interval"] == Started(5.0, "file")
    assert found["eviction"] == Started("adaptive", "default")
    assert "shed_after" not in found


@pytest.mark.usefixtures("sources")
def test_a_child_that_gets_all_as_flags_names_the_source_of_its_parent() -> None:
    up = load_settings(UpSettings, rebalance_rate="1MB")
    told = {SOURCES_VARIABLE: sources_text(up)}
    child = load_settings(
        AuxSettings,
        **{name: getattr(up, name) for name in ("max_clients", "rebalance_rate", "log_level")},
    )
    found = started_with(child, told)
    assert found["max_clients"] == Started(7, "file")
    assert found["rebalance_rate"].source == "flag"
    assert found["log_level"].source == "default"


def test_where_values_come_from_makes_no_other_settings() -> None:
    by_flag, by_default = load_settings(AuxSettings, log_level="info"), load_settings(AuxSettings)
    assert by_flag == by_default
    assert hash(by_flag) == hash(by_default)
