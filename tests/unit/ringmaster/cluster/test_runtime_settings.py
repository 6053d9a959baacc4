"""Settings that change while the cluster runs: the record, the view that carries it, and who follows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ringmaster.cluster.runtime_settings import (
    SETTINGS_KEY,
    RuntimeSettings,
    SettingsFollower,
    asked_settings,
    change_settings,
    read_settings,
)
from ringmaster.cluster.view import View, decode_view, encode_view, first_view
from ringmaster.cluster.view_delta import decode_step, encode_step, step_between
from ringmaster.config.sources import Started
from ringmaster.coordinator import Commit
from tests.fakes.coordinator import MemoryCoordinator


def anything(_before: RuntimeSettings) -> None:
    """No condition."""


async def change(coordinator: MemoryCoordinator, **changes: Any) -> RuntimeSettings:
    return await change_settings(coordinator, changes, may=anything, by="master1", at=1.0)


async def test_changes_add_up_and_are_taken_back_one_by_one() -> None:
    coordinator = MemoryCoordinator()
    assert await read_settings(coordinator) == RuntimeSettings()
    await change(coordinator, max_fills=8, log_level="debug")
    asked = await change(coordinator, max_fills=None, eviction="lru")
    assert asked.values == {"log_level": "debug", "eviction": "lru"}
    assert asked == await read_settings(coordinator)


async def test_what_is_so_already_writes_nothing() -> None:
    coordinator = MemoryCoordinator()
    first = await change(coordinator, max_fills=8)
    assert await change(coordinator, max_fills=8, log_level=None) == first


async def test_two_at_once_lose_nothing() -> None:
    coordinator = MemoryCoordinator()

    def other_comes_first(before: RuntimeSettings) -> None:
        if not before.version:
            coordinator.put(SETTINGS_KEY, b'{"values":{"log_level":"error"}}')

    asked = await change_settings(
        coordinator, {"max_fills": 8}, may=other_comes_first, by="master1", at=1.0
    )
    assert asked.values == {"log_level": "error", "max_fills": 8}


async def test_a_policy_asked_of_an_older_version_holds_until_it_is_changed() -> None:
    coordinator = MemoryCoordinator()
    coordinator.put("admin/eviction/lru", b"{}")
    assert (await read_settings(coordinator)).values == {"eviction": "lru"}
    assert (await change(coordinator, max_fills=8)).values == {"eviction": "lru", "max_fills": 8}
    assert (await change(coordinator, eviction=None)).values == {"max_fills": 8}
    assert await coordinator.read("admin/eviction/") == {}


async def test_a_record_of_a_later_version_is_passed_on_and_one_that_cannot_be_read_is_none() -> (
    None
):
    coordinator = MemoryCoordinator()
    coordinator.put(SETTINGS_KEY, b'{"values":{"later":[1]},"more":2}')
    assert (await read_settings(coordinator)).values == {"later": [1]}
    coordinator.put(SETTINGS_KEY, b"not json")
    assert asked_settings(await coordinator.read("admin/")).values == {}


def view_with(settings: RuntimeSettings) -> View:
    return msgspec.structs.replace(first_view("c" * 32, 4, 2), epoch=1, settings=settings)


def test_a_view_without_changes_is_the_very_bytes_that_older_versions_know() -> None:
    view = first_view("c" * 32, 4, 2)
    assert b"settings" not in encode_view(view)
    assert view.changed_settings == RuntimeSettings()


def test_views_and_steps_carry_changes() -> None:
    before, asked = (
        first_view("c" * 32, 4, 2),
        RuntimeSettings(version=3, values={"max_fills": 8, "later": [1]}),
    )
    view = view_with(asked)
    assert decode_view(encode_view(view)).changed_settings == asked
    step = step_between(before, view)
    assert step is not None
    assert decode_step(encode_step(step)).applied_to(before) == view


class Process:
    """What was taken on, in order."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, object]] = []
        started = {"max_fills": Started(128, "default"), "log_level": Started("info", "flag")}
        self.follower = SettingsFollower(
            started,
            {
                "max_fills": lambda value: self.taken.append(("max_fills", value)),
                "log_level": lambda value: self.taken.append(("log_level", value)),
                "max_memory": lambda value: self.taken.append(("max_memory", value)),
            },
        )

    def follow(self, version: int, **values: Any) -> list[tuple[str, object]]:
        self.taken.clear()
        self.follower.follow(RuntimeSettings(version=version, values=values))
        return self.taken


def test_a_process_takes_on_what_changed_and_goes_back_to_its_start() -> None:
    process = Process()
    assert process.follow(0) == [("max_fills", 128), ("log_level", "info")]
    assert process.follow(1, max_fills=8, max_memory=10**9) == [("max_fills", 8)]
    assert process.follower.value("max_fills") == 8
    assert process.follow(1, max_fills=8, max_memory=10**9) == []
    assert process.follow(2) == [("max_fills", 128)]
    assert process.follower.version == 2


def test_one_that_starts_later_begins_with_the_change() -> None:
    process = Process()
    assert process.follow(5, log_level="debug") == [("max_fills", 128), ("log_level", "debug")]


@pytest.mark.parametrize("value", ["of-a-later-version", 5, None, {}])
def test_a_value_it_does_not_know_leaves_it_as_started(value: object) -> None:
    assert Process().follow(1, log_level=value)[1] == ("log_level", "info")


async def test_a_refusal_changes_nothing() -> None:
    coordinator = MemoryCoordinator()
    await coordinator.commit(Commit(put={"admin/pause": b"{}"}))

    def refuse(_before: RuntimeSettings) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await change_settings(coordinator, {"max_fills": 8}, may=refuse, by="master1", at=1.0)
    assert set(await coordinator.read("admin/")) == {"admin/pause"}
