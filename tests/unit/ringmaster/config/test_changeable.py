"""Which settings can change while a cluster runs, and which values they take."""

from __future__ import annotations

import pytest

from ringmaster.config.changeable import CHANGEABLE, checked_values
from ringmaster.config.settings import AuxSettings, MasterSettings


def test_each_is_a_setting_of_the_processes_it_applies_to() -> None:
    for name, each in CHANGEABLE.items():
        assert each.description
        kinds = {"nodes": [AuxSettings], "masters": [MasterSettings]}
        for kind in kinds.get(each.applies_to, [AuxSettings, MasterSettings]):
            assert name in kind.model_fields, name


def test_what_is_started_by_default_is_a_right_value() -> None:
    for name, each in CHANGEABLE.items():
        kind = MasterSettings if name in MasterSettings.model_fields else AuxSettings
        default = kind.model_fields[name].default
        assert each.checked("" if default is None else default) == (
            default or each.checked(0 if default == 0 else "")
        )


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("max_memory", "1GB", 10**9),
        ("max_memory", 10**9, 10**9),
        ("snapshot_interval", "2m", 120.0),
        ("snapshot_interval", 0, 0.0),
        ("shed_after", "20ms", 0.02),
        ("rate_limit_address", "10 / s", "10/s"),
        ("rate_limit_address", "", ""),
        ("max_fills", "12", 12),
        ("log_level", "debug", "debug"),
        ("eviction", "sieve", "sieve"),
    ],
)
def test_values_are_taken_as_json_and_as_people_write_them(
    name: str, value: object, taken: object
) -> None:
    assert CHANGEABLE[name].checked(value) == taken


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("max_memory", 5, "give it 96MiB or more"),
        ("max_memory", "1 cow", "256MB"),
        ("max_memory", "9" * 90 + ".5", "from 96MiB to 16TiB"),
        ("max_memory", "9" * 5000, "a text of 5000 characters"),
        ("max_memory", True, "true or false"),
        ("max_memory", None, "null"),
        ("max_memory", [1], "a list"),
        ("rebalance_rate", 1, "from 1KiB"),
        ("snapshot_interval", 0.1, "0.5 s at least"),
        ("snapshot_interval", "9" * 99, "from 0 to 604,800 s"),
        ("snapshot_interval", -1, "write seconds"),
        ("max_fills", 3.5, "from 1 to 4,096"),
        ("max_fills", {}, "an object"),
        ("max_clients", 1e300, "from 0 to 1,000,000"),
        ("rate_limit_token", "much", "500/s"),
        ("rate_limit_token", 5, "1000/s"),
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("eviction", 1, "one of adaptive"),
    ],
)
def test_a_refusal_names_the_setting_and_says_what_is_right(
    name: str, value: object, hint: str
) -> None:
    with pytest.raises(ValueError, match=f"^{name}: ") as refused:
        CHANGEABLE[name].checked(value)
    assert hint in str(refused.value)


def test_what_a_later_version_stored_is_left_out() -> None:
    stored = {"max_fills": 8, "eviction": "of-a-later-version", "later": {"a": 1}, "log_level": 7}
    assert checked_values(stored) == {"max_fills": 8}
