"""With which values a process was started, and where each came from; told to child processes, which get them as flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from ringmaster.config.changeable import CHANGEABLE, Value
from ringmaster.config.cluster_settings import ClusterSettings

SOURCES_VARIABLE: Final = "RINGMASTER_SETTING_SOURCES"
"""`name=source` with commas between: of flags that stand for something else, since `ringmaster up` passes all on as flags."""


class Started(msgspec.Struct, frozen=True, array_like=True):
    """What a process was started with. `source`: `default`, `file`, `environment` or `flag`."""

    value: Value
    source: str


def started_with(
    settings: ClusterSettings, environment: Mapping[str, str] = os.environ
) -> dict[str, Started]:
    """The settings that can change while it runs, as far as this process has them."""
    told = _told(environment)
    found = {}
    for name in CHANGEABLE.keys() & type(settings).model_fields.keys():
        value = getattr(settings, name)
        source = settings.source_of(name)
        if source == "flag":
            source = told.get(name, source)
        found[name] = Started("" if value is None else value, source)
    return found


def sources_text(settings: ClusterSettings) -> str:
    """What `SOURCES_VARIABLE` is to be for processes that get the values of `settings` as flags."""
    names = sorted(CHANGEABLE.keys() & type(settings).model_fields.keys())
    return ",".join(f"{name}={settings.source_of(name)}" for name in names)


def _told(environment: Mapping[str, str]) -> dict[str, str]:
    pairs = (each.partition("=") for each in environment.get(SOURCES_VARIABLE, "").split(","))
    return {name: source for name, _, source in pairs if source}
