"""Calls to etcd's HTTP/JSON gateway: failover between members, authentication, streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import aiohttp
import orjson

from ringmaster.coordinator.etcd_tls import EtcdTls
from ringmaster.errors import RingmasterError

_CONNECT_S: Final = 1.0
_MAX_LINE: Final = 32 * 2**20
_UNAUTHENTICATED: Final = 16
"""The gRPC code of a missing or expired token."""
_NOT_CONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""No connection was made, so the request was not sent."""

T = TypeVar("T")


class GatewayError(RingmasterError):
    """The call failed. It may have been executed."""


class NotSent(GatewayError):
    """No member accepted a connection. The call was not executed."""


class TimedOut(GatewayError):
    """No reply by the deadline. The call may have been executed."""


class Gateway:
    """`endpoints` are the base URLs of one etcd cluster's members. Deadlines are absolute, by the running loop's clock."""

    def __init__(
        self, endpoints: Sequence[str], user: str, password: str, tls: EtcdTls | None
    ) -> None:
        self._endpoints = list(endpoints)
        self._current = 0
        self._user = user
        self._password = password
        self._tls = tls
        self._token = ""
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return ",".join(self._endpoints)

    async def call(
        self, path: str, request: dict[str, Any], deadline: float, *, spare_time: bool = False
    ) -> dict[str, Any]:
        """The reply of one member. `spare_time`: give up at half the time, so that the caller can repeat the call.

        A member that fails goes to the end of the list. Raises `NotSent`, `TimedOut`, `GatewayError`.
        """
        for attempt in (1, 2):
            token = await self._authenticated(deadline)
            try:
                return await self._post(path, request, deadline, token, spare_time=spare_time)
            except _TokenRejected as error:
                if self._token == token:
                    self._token = ""
                if attempt == 2 or not self._user:
                    raise GatewayError(f"authentication: {error}") from error
        raise AssertionError("unreachable")

    async def stream(
        self,
        path: str,
        request: dict[str, Any],
        deadline: float,
        select: Callable[[dict[str, Any]], T | None],
    ) -> T | None:
        """Call `select` with each `result` of a streamed reply until it returns a value, and return that.

        None at `deadline`. Raises `GatewayError` if the stream ends before.
        """
        token = await self._authenticated(deadline)
        index = self._current
        endpoint = self._endpoints[index]
        try:
            async with (
                asyncio.timeout_at(deadline),
                self._request(index, path, request, token) as reply,
            ):
                return await _select_first(reply, endpoint, select)
        except _NOT_CONNECTED as error:
            self._demote(index)
            raise NotSent(f"{endpoint}: {error}") from error
        except TimeoutError:
            return None
        except (aiohttp.ClientError, OSError) as error:
            self._demote(index)
            raise GatewayError(f"{endpoint}: {error}") from error
        except GatewayError:
            self._demote(index)
            raise

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        if self._session is not None:
            await self._session.close()

    async def _post(
        self, path: str, request: dict[str, Any], deadline: float, token: str, *, spare_time: bool
    ) -> dict[str, Any]:
        failures: list[str] = []
        now = asyncio.get_running_loop().time
        for _ in self._endpoints:
            index = self._current
            is_last = not spare_time or len(failures) + 1 == len(self._endpoints)
            until = deadline if is_last else now() + (deadline - now()) / 2
            try:
                async with (
                    asyncio.timeout_at(until),
                    self._request(index, path, request, token) as reply,
                ):
                    return _decode_reply(self._endpoints[index], reply.status, await reply.read())
            except _NOT_CONNECTED as error:
                self._demote(index)
                failures.append(f"{self._endpoints[index]}: {error}")
            except TimeoutError as error:
                self._demote(index)
                raise TimedOut(f"{self._endpoints[index]} did not answer in time") from error
            except (aiohttp.ClientError, OSError) as error:
                self._demote(index)
                raise GatewayError(f"{self._endpoints[index]}: {error}") from error
            except _TokenRejected:
                raise
            except _ErrorReply:
                self._demote(index)
                raise
        raise NotSent("; ".join(failures))

    def _request(
        self, index: int, path: str, request: dict[str, Any], token: str
    ) -> aiohttp.client._RequestContextManager:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=64)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = token
        url = self._endpoints[index] + path
        tls = True if self._tls is None else self._tls.context()
        return self._session.post(
            url, data=orjson.dumps(request), headers=headers, allow_redirects=False, ssl=tls
        )

    async def _authenticated(self, deadline: float) -> str:
        if self._user and not self._token:
            request = {"name": self._user, "password": self._password}
            try:
                reply = await self._post(
                    "/v3/auth/authenticate", request, deadline, "", spare_time=True
                )
            except TimedOut:
                raise
            except GatewayError as error:
                raise NotSent(f"authentication: {error}") from error
            self._token = str(reply["token"])
        return self._token

    def _demote(self, index: int) -> None:
        """A call to this member failed: the next call begins with the one after it."""
        if self._current == index:
            self._current = (index + 1) % len(self._endpoints)


class _ErrorReply(GatewayError):
    """The member replied with an error."""


class _TokenRejected(_ErrorReply):
    """The token is missing, unknown or expired. The call was not executed."""


async def _select_first(
    reply: aiohttp.ClientResponse, endpoint: str, select: Callable[[dict[str, Any]], T | None]
) -> T:
    if reply.status != 200:
        raise GatewayError(f"{endpoint}: status {reply.status}")
    rest = b""
    async for chunk in reply.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MAX_LINE:
            raise GatewayError(f"{endpoint}: a message is too long")
        for line in lines:
            selected = select(_decode_result(line))
            if selected is not None:
                return selected
    raise GatewayError(f"{endpoint}: the stream ended")


def _decode_reply(endpoint: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _ErrorReply(f"{endpoint}: status {status}, not JSON") from error
    if status == 200 and isinstance(reply, dict) and "header" in reply:
        return reply
    detail = reply.get("message") or reply.get("error") if isinstance(reply, dict) else reply
    if isinstance(reply, dict) and reply.get("code") == _UNAUTHENTICATED:
        raise _TokenRejected(f"{endpoint}: {detail}")
    raise _ErrorReply(f"{endpoint}: status {status}: {detail}")


def _decode_result(line: bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise GatewayError("a streamed message is not JSON") from error
    result = message.get("result") if isinstance(message, dict) else None
    if not isinstance(result, dict):
        raise GatewayError(f"the stream failed: {message}")
    return result
