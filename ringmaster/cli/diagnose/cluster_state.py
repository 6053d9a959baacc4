"""What the coordinator has, and what every master and node says that can be reached: all asked at once, each for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ringmaster.cli.diagnose.bundle import Bundle
from ringmaster.client.aio import AsyncClient
from ringmaster.config.settings import UpSettings
from ringmaster.coordinator import Record
from ringmaster.coordinator.cluster_record import CLUSTER_KEY
from ringmaster.coordinator.engines import configured_coordinator
from ringmaster.errors import RingmasterError
from ringmaster.protocol.handshake import reader_password

ASK_S: Final = 4.0
CLOSE_S: Final = 1.0

_PREFIXES: Final = (
    *("view", "time", "losses", "node/", "admin/", CLUSTER_KEY),
    *("lease/", "controller", "master/"),
)
_OF_MASTERS: Final = (
    "/cluster",
    "/cluster/settings",
    "/cluster/partitions",
    "/cluster/traffic",
    "/cluster/advice",
    "/snapshots?files=0",
    "/readyz",
    "/metrics",
)
_OF_NODES: Final = ("/healthz", "/metrics")
_MOST: Final = 256
"""Processes that are asked."""


async def add_cluster(bundle: Bundle, settings: UpSettings, url: str, token: str | None) -> None:
    """The coordinator's records, and the answers of the front door, masters and nodes."""
    rows = await _records(bundle, settings)
    front = await _ask(bundle, "front door", url, ("/cluster",), token)
    masters = {**_listed(front), **_addresses(rows, "master/", "address")}
    nodes = _addresses(rows, "node/", "http")
    if not masters:
        bundle.lack(
            "masters", "neither the coordinator nor the front door says where there are any"
        )
    if not nodes:
        bundle.lack("nodes", "the coordinator does not say where their metrics are")
    asked = [
        _ask(bundle, f"masters/{name}", f"http://{address}", _OF_MASTERS, token)
        for name, address in list(masters.items())[:_MOST]
    ]
    asked += [
        _ask(bundle, f"nodes/{name}", f"http://{address}", _OF_NODES, None)
        for name, address in list(nodes.items())[:_MOST]
    ]
    await asyncio.gather(*asked)


async def _records(bundle: Bundle, settings: UpSettings) -> Mapping[str, Any]:
    """The coordinator's records as JSON, by key; its secret is learnt and left out."""
    if settings.coordinator == "sqlite" and not settings.coordinator_path.is_dir():
        # What opens an SQLite coordinator makes its folder.
        bundle.lack("coordinator", f"there is none in {settings.coordinator_path}")
        return {}
    try:
        coordinator = configured_coordinator(settings)
    except RingmasterError as error:
        bundle.lack("coordinator", str(error))
        return {}
    try:
        async with asyncio.timeout(ASK_S):
            found = await coordinator.read_all(_PREFIXES, ASK_S / 2)
    except (RingmasterError, TimeoutError) as error:
        bundle.lack("coordinator", str(error) or f"no answer within {ASK_S:g} s")
        return {}
    finally:
        try:
            async with asyncio.timeout(CLOSE_S):
                await coordinator.close()
        except (RingmasterError, TimeoutError):
            bundle.lack("coordinator", "its connection did not close in time")
    rows = {key: _content(record) for key, record in found.items()}
    secret = rows.get(CLUSTER_KEY, {}).pop("secret", "") if CLUSTER_KEY in rows else ""
    if isinstance(secret, str) and secret:
        bundle.redaction.learn([secret, reader_password(secret)])
    versions = {key: found[key].version for key in found}
    view = rows.pop("view", None)
    if view is not None:
        bundle.add_json("coordinator/view.json", view, "the view that the coordinator has")
    bundle.add_json(
        "coordinator/records.json",
        {key: {"version": versions[key], "value": value} for key, value in rows.items()},
        "its other records, without the cluster's secret",
    )
    return rows


def _content(record: Record) -> Any:
    try:
        return msgspec.json.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return record.value.decode("utf-8", "replace")


def _addresses(rows: Mapping[str, Any], prefix: str, field: str) -> dict[str, str]:
    found = {}
    for key, row in rows.items():
        if key.startswith(prefix) and isinstance(row, dict) and row.get(field):
            found[key.removeprefix(prefix)] = str(row[field])
    return found


def _listed(state: bytes | None) -> dict[str, str]:
    """Masters by what the front door says of the cluster."""
    try:
        found = msgspec.json.decode(state or b"{}")["masters"]
        return {str(row["id"]): str(row["address"]) for row in found}
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return {}


async def _ask(
    bundle: Bundle, name: str, url: str, targets: Sequence[str], token: str | None
) -> bytes | None:
    """Every reply of one process goes into a file; the first is returned. It has `ASK_S` for all of them together."""
    folder = name.replace(" ", "-")

    async def one(client: AsyncClient, target: str) -> bytes | None:
        path = target.partition("?")[0].strip("/").replace("/", "-") or "root"
        file = f"{folder}/{path}.{'txt' if path == 'metrics' else 'json'}"
        try:
            async with asyncio.timeout(ASK_S):
                reply = await client.request("GET", target)
        except (RingmasterError, TimeoutError) as error:
            bundle.lack(file, str(error) or f"no answer within {ASK_S:g} s")
            return None
        if reply.status != 200:
            bundle.lack(file, f"{url}{target} answers {reply.status}")
            return None
        bundle.add(file, reply.body, f"GET {target} of {name}")
        return reply.body

    try:
        async with AsyncClient(url, timeout_s=ASK_S, connections=4, token=token) as client:
            replies = await asyncio.gather(*(one(client, target) for target in targets))
    except RingmasterError as error:
        bundle.lack(name, str(error))
        return None
    return replies[0]
