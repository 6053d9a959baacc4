"""The asyncio client."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from ringmaster.client.reply import (
    DEFAULT_URL,
    Reply,
    check_url,
    checked,
    data_target,
    path_segment,
    posted,
    stored_value,
)
from ringmaster.errors import LinkBroken, LinkDown


class AsyncClient:
    """A pool of connections to a cluster, for one event loop. Every call ends within `timeout_s`.

    All calls raise `LinkDown` (nothing was sent), `LinkBroken` (it may have run), `Unserved`, `OutcomeUnknown`,
    `BadRequest`.
    """

    def __init__(
        self, url: str = DEFAULT_URL, timeout_s: float = 10.0, connections: int = 64
    ) -> None:
        self._url = check_url(url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            auto_decompress=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, key: str) -> bytes | None:
        """The value, JSON text for one that was POSTed; None if there is none."""
        reply = await self.request("GET", data_target(key))
        return None if reply.status == 404 else stored_value(reply, key)

    async def put(
        self, key: str, value: bytes, *, content_type: str | None = None, ttl_s: float | None = None
    ) -> bool:
        """Store bytes; True if the key is new."""
        headers = {"Content-Type": content_type} if content_type else {}
        reply = await self.request("PUT", data_target(key, ttl=ttl_s), value, headers)
        return reply.status == 201

    async def post(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        """Store JSON text; True if the key is new."""
        reply = await self.request("POST", "/data", posted(key, value, ttl_s))
        return reply.status == 201

    async def delete(self, key: str) -> None:
        """Remove the key, whether or not it is there."""
        await self.request("DELETE", data_target(key))

    async def cluster(self) -> Any:
        """`GET /cluster`."""
        return (await self.request("GET", "/cluster")).json()

    async def locate(self, key: str) -> Any:
        """Where `key` belongs: `GET /cluster/locate/{key}`."""
        return (await self.request("GET", f"/cluster/locate/{path_segment(key)}")).json()

    async def request(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Reply:
        """One request; see `checked` for the replies that are errors."""
        url = URL(self._url + target, encoded=True)
        try:
            async with self._session.request(
                method, url, data=body or None, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.read()
                names = {name.lower(): value for name, value in answer.headers.items()}
                reply = Reply(answer.status, names, content)
        except aiohttp.ClientConnectorError as error:
            raise LinkDown(f"cannot reach {self._url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            raise LinkBroken(f"{self._url} gave no reply: {why}") from error
        return checked(reply, method)
