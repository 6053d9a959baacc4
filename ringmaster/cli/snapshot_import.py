"""Writes the entries of a snapshot into a running cluster, over HTTP."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from ringmaster.client.blocking import Client
from ringmaster.client.reply import data_target
from ringmaster.errors import BadRequest
from ringmaster.protocol.entry import JSON
from ringmaster.protocol.keys import SkippedKeys
from ringmaster.snapshot.archive import SnapshotEntry

_BATCH: Final = 500
_BATCH_BYTES: Final = 4 * 1024 * 1024
_REFUSED: Final = 400
_EXTRAS: Final = ("swr", "tags")


class Importer:
    """Sends entries to a cluster, JSON values in bulk, others one by one. Counts what became of them.

    Tags and swr are sent until the cluster refuses them once. `stripped`: entries written without theirs.
    `skipped`: entries that HTTP cannot write, as it refuses their keys.
    """

    def __init__(self, client: Client, *, overwrite: bool) -> None:
        self.written = self.kept = self.expired = self.failed = self.stripped = 0
        self.errors: list[str] = []
        self.skipped = SkippedKeys()
        self._client = client
        self._overwrite = overwrite
        self._extras = True
        self._items: list[dict[str, Any]] = []
        self._size = 0

    def add(self, entry: SnapshotEntry) -> None:
        """Send it, now or with the next `flush`."""
        now_ms = int(time.time() * 1000)
        if is_expired(entry, now_ms):
            self.expired += 1
            return
        if self.skipped.skips(entry.key):
            return
        ttl_s = max(entry.header.expires_ms - now_ms, 1) / 1000 if entry.header.expires_ms else None
        if not entry.header.flags & JSON:
            self._put(entry, ttl_s)
            return
        item: dict[str, Any] = {"key": entry.key.decode(), "value": msgspec.Raw(entry.value)}
        if ttl_s is not None:
            item["ttl"] = ttl_s
        if entry.meta.swr_ms:
            item["swr"] = entry.meta.swr_ms / 1000
        if entry.meta.tags:
            item["tags"] = entry.meta.tags
        if not self._overwrite:
            item["if_none_match"] = "*"
        self._items.append(item)
        self._size += len(entry.value) + len(entry.key)
        if len(self._items) >= _BATCH or self._size >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what is gathered."""
        items, self._items, self._size = self._items, [], 0
        if not items:
            return
        if not self._extras:
            items = [self._strip(item) for item in items]
        again = []
        for item, result in zip(items, self._send(items), strict=True):
            if result["status"] == _REFUSED and _has_extras(item):
                self._extras = False
                again.append(self._strip(item))
            else:
                self._count(result["status"], f"{result['key']}: {result.get('detail', '')}")
        if again:
            for result in self._send(again):
                self._count(result["status"], f"{result['key']}: {result.get('detail', '')}")

    def _send(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        reply = self._client.request(
            "POST", "/data/bulk", msgspec.json.encode(items), {"Content-Type": "application/json"}
        )
        results: list[dict[str, Any]] = reply.json()["results"]
        return results

    def _strip(self, item: dict[str, Any]) -> dict[str, Any]:
        self.stripped += _has_extras(item)
        return {name: value for name, value in item.items() if name not in _EXTRAS}

    def _put(self, entry: SnapshotEntry, ttl_s: float | None) -> None:
        meta = entry.meta
        headers = {"Content-Type": meta.content_type or "application/octet-stream"}
        if meta.content_encoding:
            headers["Content-Encoding"] = meta.content_encoding
        if meta.content_disposition:
            headers["Content-Disposition"] = meta.content_disposition
        if not self._overwrite:
            headers["If-None-Match"] = "*"
        key = entry.key.decode()
        plain = data_target(key, ttl=ttl_s)
        swr_s = meta.swr_ms / 1000 if meta.swr_ms else None
        target = data_target(key, meta.tags, ttl=ttl_s, swr=swr_s)
        if target != plain and self._extras:
            try:
                self._count(self._client.request("PUT", target, entry.value, headers).status, "")
            except BadRequest:
                self._extras = False
            else:
                return
        self.stripped += target != plain
        try:
            self._count(self._client.request("PUT", plain, entry.value, headers).status, "")
        except BadRequest as error:
            self._count(_REFUSED, f"{key}: {error}")

    def _count(self, status: int, sentence: str) -> None:
        if status in (200, 201, 204):
            self.written += 1
        elif status == 412:
            self.kept += 1
        else:
            self.failed += 1
            if len(self.errors) < 10:
                self.errors.append(sentence)


def is_expired(entry: SnapshotEntry, now_ms: int) -> bool:
    """Whether its time to live was over at wall time `now_ms`."""
    return 0 < entry.header.expires_ms <= now_ms


def _has_extras(item: dict[str, Any]) -> bool:
    return any(name in item for name in _EXTRAS)
