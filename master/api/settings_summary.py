"""What `GET /cluster/settings` says: pure, from what was asked for and what processes report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ringmaster.cluster.registration import MasterRow
from ringmaster.cluster.runtime_settings import RuntimeSettings, SettingsReport
from ringmaster.config.changeable import CHANGEABLE, Changeable, Value, checked_values
from ringmaster.config.sources import Started

RUN_TIME: Final = "run time"
MIXED: Final = "mixed"
"""The source where processes were started in different ways."""


class SettingSummary(msgspec.Struct):
    """One setting. `value`, `started`: None where processes differ, or none has answered; then `differing` says what each was started with."""

    name: str
    value: Value | None
    source: str
    started: Value | None
    applies_to: str
    unit: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    description: str
    differing: dict[str, Value]


class ProcessSummary(msgspec.Struct):
    """`follows`: whether it does as these settings say; None: it did not answer, or is of a version that does not know them."""

    id: str
    kind: str
    follows: bool | None


class SettingsSummary(msgspec.Struct):
    """The whole. `changed`: what was set at run time, which is what a patch changes."""

    version: str
    epoch: int
    followed: bool
    changed: dict[str, Any]
    settings: list[SettingSummary]
    processes: list[ProcessSummary]


def summarize_settings(
    asked: RuntimeSettings,
    *,
    version: str,
    epoch: int,
    own: Mapping[str, Started],
    nodes: Mapping[str, SettingsReport | None],
    masters: Sequence[MasterRow],
    master_id: str,
) -> SettingsSummary:
    """`own`: what the master `master_id` was started with; of the others only that is known whether they follow."""
    values = checked_values(asked.values)
    reports = {node: report.started for node, report in nodes.items() if report is not None}
    processes = [
        ProcessSummary(node, "node", None if report is None else report.version == asked.version)
        for node, report in sorted(nodes.items())
    ]
    processes += [
        ProcessSummary(
            row.id, "master", None if row.settings < 0 else row.settings == asked.version
        )
        for row in masters
    ]
    settings = []
    for each in CHANGEABLE.values():
        started: dict[str, Mapping[str, Started]] = {}
        if each.applies_to != "masters":
            started |= reports
        if each.applies_to != "nodes":
            started[master_id] = own
        settings.append(_summary(each, values, started))
    return SettingsSummary(
        version=version,
        epoch=epoch,
        followed=all(process.follows for process in processes),
        changed=asked.values,
        settings=settings,
        processes=processes,
    )


def _summary(
    setting: Changeable, values: Mapping[str, Value], started: Mapping[str, Mapping[str, Started]]
) -> SettingSummary:
    name = setting.name
    by_process = {process: found[name] for process, found in started.items() if name in found}
    distinct = {each.value for each in by_process.values()}
    sources = {each.source for each in by_process.values()}
    common = next(iter(distinct)) if len(distinct) == 1 else None
    source = next(iter(sources)) if len(sources) == 1 else MIXED if sources else "unknown"
    return SettingSummary(
        name=name,
        value=values.get(name, common),
        source=RUN_TIME if name in values else source,
        started=common,
        applies_to=setting.applies_to,
        unit=setting.unit,
        minimum=setting.minimum,
        maximum=setting.maximum,
        choices=setting.choices,
        description=setting.description,
        differing={p: each.value for p, each in sorted(by_process.items())}
        if len(distinct) > 1
        else {},
    )
