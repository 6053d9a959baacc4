"""Settings that an operator has changed while the cluster runs: the request in the coordinator, and who follows it.

Any master writes the record, each time on condition of its version; the controller puts what it says into the next view,
and every process does as its view says. So a process that starts later follows too, and an older one, which does not know
the field, stays as it was started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import structlog

from ringmaster.config.changeable import CHANGEABLE, Value, checked_values
from ringmaster.config.eviction import POLICIES
from ringmaster.config.sources import Started
from ringmaster.coordinator import Commit, Coordinator, Record
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.decoding import decode_json, json_decoder

SETTINGS_KEY: Final = "admin/settings"

EVICTION_PREFIX: Final = "admin/eviction/"
"""How versions before this record kept an operator's policy: it counts while the record does not name one."""

_ATTEMPTS: Final = 10

_log = structlog.get_logger(__name__)


class RuntimeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`values` by name, as asked for. `version`: of the coordinator's record that says so, 0 if there is none.

    Names and values may be those of a later version: they are passed on as they are.
    """

    version: int = 0
    values: dict[str, Any] = {}


NOTHING_CHANGED: Final = RuntimeSettings()


class SettingsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The record: `values`, the id of the master that wrote it, and when (wall clock, seconds)."""

    values: dict[str, Any]
    by: str = ""
    at: float = 0.0


class SettingsReport(msgspec.Struct, frozen=True, kw_only=True):
    """A node's reply to `RM.SETTINGS`. `version`: of the settings it follows; `memory_bytes`: of its machine or container."""

    id: str
    version: int
    started: dict[str, Started]
    memory_bytes: int = 0


encode_settings_report = msgspec.json.Encoder().encode
decode_settings_report = json_decoder(SettingsReport)


def asked_settings(records: Mapping[str, Record]) -> RuntimeSettings:
    """What operators ask for, from the records below `admin/`. A record that cannot be read counts as none."""
    record = records.get(SETTINGS_KEY)
    values: dict[str, Any] = {}
    if record is not None:
        try:
            values = decode_json(record.value, SettingsRecord).values
        except msgspec.DecodeError as error:
            _log.error("unreadable settings ignored", reason=str(error))
    if "eviction" not in values:
        former = [policy for policy in POLICIES if EVICTION_PREFIX + policy in records]
        if former:
            values = {**values, "eviction": min(former)}
    return RuntimeSettings(version=0 if record is None else record.version, values=values)


async def read_settings(coordinator: Coordinator) -> RuntimeSettings:
    """What the coordinator has now. Raises `CoordinatorUnavailable`."""
    return asked_settings(await coordinator.read_all((SETTINGS_KEY, EVICTION_PREFIX)))


async def change_settings(
    coordinator: Coordinator,
    changes: Mapping[str, Value | None],
    *,
    may: Callable[[RuntimeSettings], None],
    by: str,
    at: float,
) -> RuntimeSettings:
    """Set what `changes` names, take back where it says None; what holds then. Nothing is written that is so already.

    `may` is called with what holds before, and raises if that is not to be changed. Raises `CoordinatorUnavailable`.
    """
    for _ in range(_ATTEMPTS):
        before = await read_settings(coordinator)
        may(before)
        values = {
            name: value
            for name, value in (before.values | dict(changes)).items()
            if value is not None
        }
        if values == before.values:
            return before
        record = SettingsRecord(values=values, by=by, at=at)
        commit = Commit(
            expect={SETTINGS_KEY: before.version},
            put={SETTINGS_KEY: msgspec.json.encode(record)},
            delete=frozenset(EVICTION_PREFIX + policy for policy in POLICIES),
        )
        versions = await coordinator.commit(commit)
        if versions is not None:
            return RuntimeSettings(version=versions[SETTINGS_KEY], values=values)
    raise CoordinatorUnavailable("other changes of settings keep coming first")


class SettingsFollower:
    """Keeps a process's settings as its view says, else as they were `started`.

    `apply`: what takes a value on, by name; it must not raise. Those that are not in `started` are never touched.
    """

    def __init__(
        self, started: Mapping[str, Started], apply: Mapping[str, Callable[[Any], object]]
    ) -> None:
        self.started = dict(started)
        self.version = 0
        """Of what is followed."""
        self._apply = {name: take for name, take in apply.items() if name in started}
        self._followed: RuntimeSettings | None = None
        # At first nothing is known: a former incarnation in this process may have left any value.
        self._current: dict[str, Value] = {}

    def value(self, name: str) -> Value:
        """What holds now. Raises `KeyError`."""
        return self._current.get(name, self.started[name].value)

    def follow(self, asked: RuntimeSettings) -> None:
        """Take on what a view says. Does nothing if that is followed already."""
        if asked == self._followed:
            return
        first, self._followed, self.version = self._followed is None, asked, asked.version
        values = checked_values(asked.values)
        for name, take in self._apply.items():
            value = values.get(name, self.started[name].value)
            if name in self._current and value == self._current[name]:
                continue
            self._current[name] = value
            take(value)
            if not first or name in values:
                _log.info("setting", name=name, value=value, started=name not in values)


def described(changes: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of run-time values, a sentence each; of values that this version knows."""
    return [
        f"{name} is {changes[name]} from now on" if name in changes else f"{name} is as started"
        for name in sorted(CHANGEABLE)
        if changes.get(name) != before.get(name)
    ]
