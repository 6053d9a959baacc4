"""The asyncio client."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
from yarl import URL

from ringmaster.access.sender import token_headers
from ringmaster.client import calls
from ringmaster.client.calls import Call, Fetched
from ringmaster.client.filling import DEFAULT_WAIT_S, Entry, Make, Step, steps, usable_wait_s
from ringmaster.client.reply import DEFAULT_URL, Reply, check_url, checked, tls_context
from ringmaster.client.retrying import Retrying
from ringmaster.errors import BadRequest, LinkBroken, LinkDown, RingmasterError

_LINGER_S: Final = 1.0
"""For so long `close` waits for requests that nobody else waits for."""

_T = TypeVar("_T")


class AsyncClient:
    """A pool of connections to a cluster, for one event loop. Every call ends within `timeout_s`.

    All calls raise `LinkDown` (nothing was sent), `LinkBroken` (it may have run), `Unserved`, `OutcomeUnknown`,
    `BadRequest`. `token`: sent with each; `ringmaster.client.token_from_environment()` finds one. `ca`: see `tls_context`.
    `connections`: at most so many, and two at least. `retries`: how often a call that failed is made again within `timeout_s`, if it certainly has not run or only reads; see `Retrying`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        timeout_s: float = 10.0,
        connections: int = 64,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        retries: int = 0,
    ) -> None:
        self._url = check_url(url)
        self._timeout_s = timeout_s
        self._retrying = Retrying(retries, time.monotonic())
        self._sending: set[asyncio.Task[Any]] = set()
        # Who waits for a value holds a connection; some are left for those who make it.
        connections = max(2, connections)
        self._may_wait = asyncio.Semaphore(connections - max(1, connections // 4))
        self._session = aiohttp.ClientSession(
            # Longer than a fill token lives: a connection that closes gives up what it was given.
            connector=aiohttp.TCPConnector(
                limit=connections,
                keepalive_timeout=75,
                ssl=tls_context(ca) if self._url.startswith("https") else True,
            ),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            auto_decompress=False,
            headers=token_headers(token),
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
        """Close all connections, after what cancelled calls have still to say."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=_LINGER_S)
        await self._session.close()

    async def get(self, key: str) -> bytes | None:
        """The value, as JSON text if it was POSTed; None if there is none."""
        return await self._send(calls.get(key))

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        content_type: str | None = None,
        ttl_s: float | None = None,
        tags: Sequence[str] = (),
        swr_s: float | None = None,
    ) -> bool:
        """Store bytes; True if the key is new. `swr_s`: for so long after its ttl it is served stale."""
        return await self._send(calls.put(key, value, content_type, ttl_s, tags, swr_s))

    async def post(
        self,
        key: str,
        value: bytes,
        *,
        ttl_s: float | None = None,
        tags: Sequence[str] = (),
        swr_s: float | None = None,
    ) -> bool:
        """Store JSON text; True if the key is new. `swr_s` as in `put`."""
        return await self._send(calls.post(key, value, ttl_s, tags, swr_s))

    async def invalidate(self, *tags: str) -> None:
        """Have every entry that carries one of `tags` be gone for every reader once this returns."""
        await self._send(calls.invalidate(tags))

    async def get_or_set(
        self,
        key: str,
        make: Callable[[], bytes | Awaitable[bytes]],
        ttl_s: float | None = None,
        swr_s: float | None = None,
        *,
        tags: Sequence[str] = (),
        content_type: str | None = None,
        wait_s: int = DEFAULT_WAIT_S,
    ) -> bytes:
        """The value; if there is none, what `make` returns, which is stored as by `put`. Of many callers one makes it.

        The others wait, at most `wait_s` seconds at a time and less than `timeout_s`. If `make` raises, or this is interrupted,
        the next of them makes it. While a value is stale (`swr_s`), one caller makes a new one and the others get the stale one. Raises as
        `get` does, `BadRequest` for arguments that are wrong, and what `make` raises; a value that cannot be stored is returned all the same. `make` may be a coroutine function.
        """
        entry = Entry(ttl_s, swr_s, tags, content_type)
        todo = steps(key, entry, usable_wait_s(wait_s, self._timeout_s))
        try:
            step = next(todo)
            while True:
                try:
                    done = await (_made(make) if isinstance(step, Make) else self._step(step))
                except asyncio.CancelledError as error:
                    self._send_later(todo.throw(error))
                    raise
                except Exception as error:  # noqa: BLE001 - it is for the steps to say what follows
                    step = todo.throw(error)
                else:
                    step = todo.send(done)
        except StopIteration as end:
            return bytes(end.value)

    async def _step(self, call: Call[Any]) -> Any:
        """What came of `call`. One that waits and finds no connection for that has waited in vain."""
        if not call.waits_s:
            return await self._send(call)
        try:
            async with asyncio.timeout(call.waits_s):
                await self._may_wait.acquire()
        except TimeoutError:
            return Fetched(None, "", waited=True)
        try:
            return await self._send(call)
        finally:
            self._may_wait.release()

    def _send_later(self, step: Step) -> None:
        """Send what a cancelled call has still to say. Nobody waits for it, but `close` does."""
        if isinstance(step, Make):
            return
        task = asyncio.get_running_loop().create_task(self._send(step))
        self._sending.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[Any]) -> None:
        self._sending.discard(task)
        if not task.cancelled():
            task.exception()  # nobody is there to hear it

    async def delete(self, key: str) -> None:
        """Remove the key, whether or not it exists."""
        await self._send(calls.delete(key))

    async def cluster(self) -> Any:
        """`GET /cluster`."""
        return await self._send(calls.cluster())

    async def advice(self) -> Any:
        """`GET /cluster/advice`."""
        return await self._send(calls.advice())

    async def hot_keys(self, limit: int = 20) -> Any:
        """`GET /cluster/hotkeys`."""
        return await self._send(calls.hot_keys(limit))

    async def evictions(self, limit: int = 20) -> Any:
        """Whose entries were evicted for whose writes: `GET /cluster/evictions`."""
        return await self._send(calls.evictions(limit))

    async def explain(self, key: str) -> Any:
        """Why `key` is not there: `GET /data/{key}?explain`."""
        return await self._send(calls.explain(key))

    async def locate(self, key: str) -> Any:
        """Where `key` belongs: `GET /cluster/locate/{key}`."""
        return await self._send(calls.locate(key))

    async def drain(self, node: str, *, undo: bool = False) -> bool:
        """Move everything off `node`, or cancel that; False if there is no such node."""
        return await self._send(calls.drain(node, undo=undo))

    async def set_eviction(self, policy: str) -> bool:
        """Have nodes evict by `policy` from now on; False if there is no such policy."""
        return await self._send(calls.set_eviction(policy))

    async def settings(self) -> Any:
        """What can change while the cluster runs, and what it is: `GET /cluster/settings`."""
        return await self._send(calls.settings())

    async def change_settings(
        self, changes: Mapping[str, Any], *, if_match: str | None = None
    ) -> Any:
        """Set what `changes` names, take back where it says None; what holds then.

        `if_match`: the `version` that the change is meant for; None is returned if it is another by now. Raises `BadRequest`
        for a value that cannot be; then nothing has changed.
        """
        return await self._send(calls.change_settings(changes, if_match))

    async def forget(self, node: str) -> bool:
        """Strike a node that is down or has left off the list; False if there is no such node. `BadRequest`: it is up."""
        return await self._send(calls.forget(node))

    async def _send(self, call: Call[_T]) -> _T:
        return call.result(await self.request(call.method, call.target, call.body, call.headers))

    async def request(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request, made again as `retries` allows; see `checked` for the replies that are errors."""
        self._retrying.called()
        attempt = 0
        deadline = time.monotonic() + self._timeout_s
        while True:
            now = time.monotonic()
            try:
                return await self._request_once(method, target, body, headers, deadline - now)
            except RingmasterError as error:
                now = time.monotonic()
                pause_s = self._retrying.pause_s(error, method, attempt, now, deadline)
                if pause_s is None:
                    raise
            attempt += 1
            await asyncio.sleep(pause_s)

    async def _request_once(
        self,
        method: str,
        target: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        within_s: float,
    ) -> Reply:
        url = URL(self._url + target, encoded=True)
        try:
            async with self._session.request(
                method,
                url,
                data=body or None,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=within_s),
            ) as answer:
                content = await answer.read()
                names = {name.lower(): value for name, value in answer.headers.items()}
                reply = Reply(answer.status, names, content)
        except aiohttp.ClientConnectorError as error:
            raise LinkDown(f"cannot reach {self._url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            raise LinkBroken(f"{self._url} gave no reply: {why}") from error
        except ValueError as error:
            raise BadRequest(f"the request cannot be sent: {error}") from error
        return checked(reply, method)


async def _made(make: Callable[[], bytes | Awaitable[bytes]]) -> bytes:
    made = make()
    return await made if inspect.isawaitable(made) else made
