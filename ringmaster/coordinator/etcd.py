"""The etcd coordinator, for many hosts: etcd 3.4 and later, through its HTTP/JSON gateway.

Keys are below `/ringmaster/<cluster name>/`. The version of a record is the mod_revision of its key. Reads are
linearizable (etcd's default). etcd's own leases are not used: all engines share one lease mechanism.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ringmaster.coordinator import Commit, Record
from ringmaster.coordinator.etcd_tls import EtcdTls
from ringmaster.coordinator.gateway import Gateway, GatewayError, NotSent, TimedOut
from ringmaster.errors import CoordinatorUnavailable

_RETRY_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """`cluster`: this cluster's name below `/ringmaster/`. `user` and `password`: etcd's authentication.

    PEM files, read again when they change: `ca` has the authorities to trust instead of the system's, `certificate` and `key` are the
    client's own.
    """

    cluster: str = "default"
    user: str = ""
    password: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __repr__(self) -> str:
        return f"<EtcdOptions {self.cluster} user={self.user!r}>"


class EtcdCoordinator:
    """`endpoints`: base URLs of the members. After a failure the next one is used. Belongs to one event loop."""

    def __init__(self, endpoints: Sequence[str], options: EtcdOptions) -> None:
        self._prefix = f"/ringmaster/{options.cluster}/"
        self._gateway = Gateway(endpoints, options.user, options.password, _tls(endpoints, options))

    def __repr__(self) -> str:
        return f"<EtcdCoordinator {self._gateway} {self._prefix}>"

    async def read(self, prefix: str, timeout_s: float = 2.0) -> dict[str, Record]:
        start = (self._prefix + prefix).encode()
        _, records = await self._range(
            {"key": _b64(start), "range_end": _b64(_range_end(start))}, timeout_s
        )
        return records

    async def read_all(self, prefixes: Sequence[str], timeout_s: float = 2.0) -> dict[str, Record]:
        request = {
            "success": [
                {"request_range": {"key": _b64(start), "range_end": _b64(_range_end(start))}}
                for start in ((self._prefix + prefix).encode() for prefix in prefixes)
            ]
        }
        reply = await self._query("/v3/kv/txn", request, timeout_s)
        return dict(
            self._record(kv)
            for response in reply.get("responses", ())
            for kv in response["response_range"].get("kvs", ())
        )

    async def commit(self, commit: Commit, timeout_s: float = 2.0) -> Mapping[str, int] | None:
        request = {
            "compare": [
                {
                    "key": self._key(key),
                    "target": "MOD",
                    "result": "EQUAL",
                    "mod_revision": str(version),
                }
                for key, version in commit.expect.items()
            ],
            "success": [
                *(
                    {"request_delete_range": {"key": self._key(key)}}
                    for key in sorted(commit.delete)
                ),
                *(
                    {"request_put": {"key": self._key(key), "value": _b64(value)}}
                    for key, value in commit.put.items()
                ),
            ],
        }
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            # Repeat only what was certainly not sent: a commit that was applied would fail its own expectations, and None
            # would be wrong.
            try:
                reply = await self._gateway.call("/v3/kv/txn", request, deadline)
            except NotSent as error:
                await self._wait_to_retry(deadline, error)
                continue
            except GatewayError as error:
                raise CoordinatorUnavailable(f"etcd: outcome unknown: {error}") from error
            if not reply.get("succeeded", False):
                return None
            return dict.fromkeys(commit.put, int(reply["header"]["revision"]))

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            revision, records = await self._range(
                {"key": self._key(key)}, max(deadline - loop.time(), 0.1)
            )
            record = records.get(key)
            if record is not None and record.version != version:
                return record
            try:
                return await self._watch(key, revision + 1, deadline)
            except GatewayError:
                # The stream broke: read again, from the next member. That read raises if it fails as well.
                if loop.time() + _RETRY_S >= deadline:
                    return None
                await asyncio.sleep(_RETRY_S)

    async def server_version(self, timeout_s: float = 2.0) -> str:
        """Of the member that answers. Raises `CoordinatorUnavailable`."""
        return str((await self._query("/v3/maintenance/status", {}, timeout_s)).get("version", ""))

    async def close(self) -> None:
        await self._gateway.close()

    async def _range(
        self, request: dict[str, Any], timeout_s: float
    ) -> tuple[int, dict[str, Record]]:
        """The revision of the store and the records in the range."""
        reply = await self._query("/v3/kv/range", request, timeout_s)
        records = (self._record(kv) for kv in reply.get("kvs", ()))
        return int(reply["header"]["revision"]), dict(records)

    async def _query(self, path: str, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The reply to a call that only reads. Failed calls are repeated until the deadline."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        reason: GatewayError | None = None
        while True:
            try:
                return await self._gateway.call(path, request, deadline, spare_time=True)
            except GatewayError as error:
                # Report the failure before, if there was one: it says more than that the time ran out.
                reason = error if reason is None or not isinstance(error, TimedOut) else reason
                await self._wait_to_retry(deadline, reason)

    async def _watch(self, key: str, revision: int, deadline: float) -> Record | None:
        """The record after the next put of `key` at `revision` or later; None at `deadline`. Raises `GatewayError`."""
        create = {"create_request": {"key": self._key(key), "start_revision": str(revision)}}

        def last_put(result: dict[str, Any]) -> Record | None:
            if result.get("canceled", False):
                raise GatewayError("the watch was cancelled")
            events = result.get("events", ())
            puts = [event["kv"] for event in events if event.get("type", "PUT") == "PUT"]
            return self._record(puts[-1])[1] if puts else None

        return await self._gateway.stream("/v3/watch", create, deadline, last_put)

    async def _wait_to_retry(self, deadline: float, error: GatewayError) -> None:
        if asyncio.get_running_loop().time() + _RETRY_S >= deadline:
            raise CoordinatorUnavailable(f"etcd: {error}") from error
        await asyncio.sleep(_RETRY_S)

    def _key(self, key: str) -> str:
        return _b64((self._prefix + key).encode())

    def _record(self, kv: dict[str, Any]) -> tuple[str, Record]:
        key = b64decode(kv["key"]).decode().removeprefix(self._prefix)
        return key, Record(b64decode(kv.get("value", "")), int(kv["mod_revision"]))


def _b64(raw: bytes) -> str:
    return b64encode(raw).decode()


def _range_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with `prefix`. The last byte of `prefix` must be below 255."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _tls(endpoints: Sequence[str], options: EtcdOptions) -> EtcdTls | None:
    if not any(endpoint.startswith("https:") for endpoint in endpoints):
        return None
    return EtcdTls(options.ca, options.certificate, options.key, time.monotonic)
