"""/cluster/settings: what can change while the cluster runs, read and changed.

A change is one record in the coordinator, written on condition of its version; the controller puts it into the next view, which
every master and node follows, those that start later as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from master.api.ask_nodes import ANSWER_S, AskLink, NodesApi
from master.api.cluster_watch import ClusterWatch
from master.api.request import Exchange
from master.api.response import Reply
from master.api.settings_summary import summarize_settings
from master.http.conditions import Condition, holds, parse_header
from master.http.problem import Problem
from ringmaster.cluster.runtime_settings import (
    RuntimeSettings,
    SettingsReport,
    change_settings,
    decode_settings_report,
    read_settings,
)
from ringmaster.cluster.view import View
from ringmaster.config.changeable import CHANGEABLE, Value
from ringmaster.config.eviction import POLICIES
from ringmaster.config.quantities import format_size
from ringmaster.config.sources import Started
from ringmaster.coordinator import Coordinator
from ringmaster.errors import BadRequest
from ringmaster.protocol.resp import encode
from ringmaster.runtime.cluster_clock import ClusterClock

PATCH_TYPES: Final = ("application/merge-patch+json", "application/json")
_MOST_BYTES: Final = 64 * 1024
_EVICTION: Final = "/cluster/eviction/"


class SettingsApi(NodesApi):
    """`started`: what this master was started with, by name."""

    def __init__(
        self,
        coordinator: Coordinator,
        cluster_watch: ClusterWatch,
        clock: ClusterClock,
        view: Callable[[], View],
        link_of: Callable[[str], AskLink | None],
        started: Mapping[str, Started],
        master_id: str,
    ) -> None:
        super().__init__(view, link_of, clock)
        self._coordinator = coordinator
        self._cluster_watch = cluster_watch
        self._started = started
        self._master_id = master_id

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster/settings`."""
        exchange.parameters()
        asked = await read_settings(self._coordinator)
        return self._reply(asked, await self._reports(exchange))

    async def change(self, exchange: Exchange) -> Reply:
        """`PATCH /cluster/settings`, a JSON merge patch (RFC 7396): 200 and what holds then; 400, 412, 415 and nothing has changed."""
        exchange.parameters()
        _check_type(exchange)
        condition = parse_header("If-Match", exchange.headers("If-Match"), self._salt, strong=True)
        changes = checked_changes(await exchange.body(_MOST_BYTES))
        reports = await self._reports(exchange)
        check_memory(changes, reports)
        exchange.changed = changes
        asked = await self._change(changes, condition)
        return self._reply(asked, reports)

    async def set_eviction(self, exchange: Exchange) -> Reply:
        """`PUT /cluster/eviction/{policy}`, the short form for one of them: 204; 404 if there is no such policy."""
        exchange.parameters()
        policy = exchange.path.removeprefix(_EVICTION)
        if policy not in POLICIES:
            raise Problem(404, "no-such-policy", f"there are {', '.join(POLICIES)}")
        await exchange.refuse_body()
        await self._change({"eviction": policy}, None)
        return Reply.build(204, (("Cache-Control", "no-store"),))

    async def _change(
        self, changes: Mapping[str, Value | None], condition: Condition
    ) -> RuntimeSettings:
        def may(before: RuntimeSettings) -> None:
            if not holds(condition, None, (0, before.version))[0]:
                raise Problem(
                    412,
                    "condition-failed",
                    "somebody has changed the settings since; GET /cluster/settings says what they are, and its ETag is for If-Match",
                    headers=(("ETag", f'"{self._version(before)}"'),),
                )

        return await change_settings(
            self._coordinator,
            changes,
            may=may,
            by=self._master_id,
            at=self._clock.wall(),
        )

    async def _reports(self, exchange: Exchange) -> dict[str, SettingsReport | None]:
        return await self._ask_all(
            exchange, encode(b"RM.SETTINGS"), decode_settings_report, ANSWER_S
        )

    @property
    def _salt(self) -> str:
        return self._view().cluster[:8]

    def _version(self, asked: RuntimeSettings) -> str:
        """In the form of an entry's version, of which none has term 0."""
        return f"0-{asked.version:x}-{self._salt}"

    def _reply(self, asked: RuntimeSettings, reports: Mapping[str, SettingsReport | None]) -> Reply:
        version = self._version(asked)
        summary = summarize_settings(
            asked,
            version=version,
            epoch=self._view().epoch,
            own=self._started,
            nodes=reports,
            masters=self._cluster_watch.masters,
            master_id=self._master_id,
        )
        headers = (
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("ETag", f'"{version}"'),
        )
        return Reply.build(200, headers, msgspec.json.encode(summary))


def checked_changes(body: bytes) -> dict[str, Value | None]:
    """What a merge patch sets and takes back (None); all of it is checked. Raises `BadRequest`, which names every mistake."""
    try:
        patch = json.loads(body, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f'the body must be a JSON object such as {{"max_memory": "512MB", "eviction": null}}: {error}'
        ) from error
    if not isinstance(patch, dict):
        raise BadRequest(
            'the body must be a JSON object, of settings and their values: {"max_memory": "512MB"}'
        )
    found: dict[str, Value | None] = {}
    mistakes = []
    for name, value in patch.items():
        known = CHANGEABLE.get(name)
        if known is None:
            mistakes.append(
                f"{name[:100]!r} is no setting that can change while the cluster runs; there are {', '.join(CHANGEABLE)}"
            )
        elif value is None:
            found[name] = None
        else:
            try:
                found[name] = known.checked(value)
            except ValueError as error:
                mistakes.append(str(error))
    if mistakes:
        raise BadRequest("; ".join(mistakes[:10]))
    return found


def check_memory(
    changes: Mapping[str, Value | None], reports: Mapping[str, SettingsReport | None]
) -> None:
    """A node that takes more than its machine or container has is ended by the system. Raises `BadRequest`."""
    wanted = changes.get("max_memory")
    if wanted is None:
        return
    for node, report in sorted(reports.items()):
        most = 0 if report is None else report.memory_bytes
        if most and int(wanted) > most:
            raise BadRequest(
                f"max_memory: {format_size(int(wanted))} is more than {node} has, whose machine or container has {format_size(most)}; "
                "write less, and leave room for what else runs there"
            )


def _check_type(exchange: Exchange) -> None:
    """Another kind of patch means something else; a page of a browser must say that it is JSON. Raises `Problem` 415."""
    stated = exchange.header("Content-Type")
    media_type = (stated or "").partition(";")[0].strip().lower()
    other = media_type.endswith("json") or exchange.header("Origin") is not None
    if other and media_type not in PATCH_TYPES:
        raise Problem(
            415,
            "unsupported-type",
            f"the body is a JSON merge patch (RFC 7396): {' or '.join(PATCH_TYPES)}",
            headers=(("Accept-Patch", ", ".join(PATCH_TYPES)),),
        )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given more than once")
    return found


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON number")
