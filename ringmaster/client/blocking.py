"""The blocking client: the standard library's HTTP connection, kept open between calls."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from ringmaster.access.sender import token_headers
from ringmaster.client import calls
from ringmaster.client.calls import Call
from ringmaster.client.filling import DEFAULT_WAIT_S, Entry, Make, steps, usable_wait_s
from ringmaster.client.reply import DEFAULT_URL, Reply, check_url, checked, tls_context
from ringmaster.client.retrying import Retrying
from ringmaster.errors import BadRequest, LinkBroken, LinkDown, RingmasterError

_LEAST_S: Final = 0.001
_T = TypeVar("_T")


class Client:
    """One connection to a cluster; not for use by several threads at once. Every call ends within `timeout_s`.

    All calls raise `LinkDown` (nothing was sent), `LinkBroken` (it may have run), `Unserved`, `OutcomeUnknown`,
    `BadRequest`. `token`: sent with each; `ringmaster.client.token_from_environment()` finds one. `ca`: see `tls_context`.
    `retries`: how often a call that failed is made again within `timeout_s`, if it certainly has not run or only reads; see `Retrying`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        timeout_s: float = 10.0,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        retries: int = 0,
    ) -> None:
        self._own_headers = token_headers(token)
        parts = urlsplit(check_url(url))
        self._retrying = Retrying(retries, time.monotonic())
        self._url = url
        self._timeout_s = timeout_s
        host = parts.hostname or ""
        if parts.scheme == "https":
            self._new_connection: Callable[[], http.client.HTTPConnection] = partial(
                http.client.HTTPSConnection, host, parts.port or 443, context=tls_context(ca)
            )
        else:
            self._new_connection = partial(http.client.HTTPConnection, host, parts.port or 80)
        self._connection = self._new_connection()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def get(self, key: str) -> bytes | None:
        """The value, as JSON text if it was POSTed; None if there is none."""
        return self._send(calls.get(key))

    def put(
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
        return self._send(calls.put(key, value, content_type, ttl_s, tags, swr_s))

    def post(
        self,
        key: str,
        value: bytes,
        *,
        ttl_s: float | None = None,
        tags: Sequence[str] = (),
        swr_s: float | None = None,
    ) -> bool:
        """Store JSON text; True if the key is new. `swr_s` as in `put`."""
        return self._send(calls.post(key, value, ttl_s, tags, swr_s))

    def invalidate(self, *tags: str) -> None:
        """Have every entry that carries one of `tags` be gone for every reader once this returns."""
        self._send(calls.invalidate(tags))

    def get_or_set(
        self,
        key: str,
        make: Callable[[], bytes],
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
        `get` does, `BadRequest` for arguments that are wrong, what `make` raises, and TypeError if it returns no bytes; a value that cannot be stored is returned all the same.
        """
        entry = Entry(ttl_s, swr_s, tags, content_type)
        todo = steps(key, entry, usable_wait_s(wait_s, self._timeout_s))
        try:
            step = next(todo)
            while True:
                try:
                    done = make() if isinstance(step, Make) else self._send(step)
                except BaseException as error:  # noqa: BLE001 - it is for the steps to say what follows
                    step = todo.throw(error)
                else:
                    step = todo.send(done)
        except StopIteration as end:
            return bytes(end.value)

    def delete(self, key: str) -> None:
        """Remove the key, whether or not it exists."""
        self._send(calls.delete(key))

    def cluster(self) -> Any:
        """`GET /cluster`."""
        return self._send(calls.cluster())

    def advice(self) -> Any:
        """`GET /cluster/advice`."""
        return self._send(calls.advice())

    def hot_keys(self, limit: int = 20) -> Any:
        """`GET /cluster/hotkeys`."""
        return self._send(calls.hot_keys(limit))

    def evictions(self, limit: int = 20) -> Any:
        """Whose entries were evicted for whose writes: `GET /cluster/evictions`."""
        return self._send(calls.evictions(limit))

    def explain(self, key: str) -> Any:
        """Why `key` is not there: `GET /data/{key}?explain`."""
        return self._send(calls.explain(key))

    def locate(self, key: str) -> Any:
        """Where `key` belongs: `GET /cluster/locate/{key}`."""
        return self._send(calls.locate(key))

    def drain(self, node: str, *, undo: bool = False, force: bool = False) -> bool:
        """Move everything off `node`, or cancel that; False if there is no such node.

        Raises `BadRequest` if too few copies would remain, unless `force`.
        """
        return self._send(calls.drain(node, undo=undo, force=force))

    def set_eviction(self, policy: str) -> bool:
        """Have nodes evict by `policy` from now on; False if there is no such policy."""
        return self._send(calls.set_eviction(policy))

    def settings(self) -> Any:
        """What can change while the cluster runs, and what it is: `GET /cluster/settings`."""
        return self._send(calls.settings())

    def change_settings(self, changes: Mapping[str, Any], *, if_match: str | None = None) -> Any:
        """Set what `changes` names, take back where it says None; what holds then.

        `if_match`: the `version` that the change is meant for; None is returned if it is another by now. Raises `BadRequest`
        for a value that cannot be; then nothing has changed.
        """
        return self._send(calls.change_settings(changes, if_match))

    def forget(self, node: str) -> bool:
        """Take a node that is down or has left off the list; False if there is no such node. `BadRequest`: it is up."""
        return self._send(calls.forget(node))

    def _send(self, call: Call[_T]) -> _T:
        return call.result(self.request(call.method, call.target, call.body, call.headers))

    def request(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request, made again as `retries` allows; see `checked` for the replies that are errors."""
        self._retrying.called()
        attempt = 0
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                left_s = max(deadline - time.monotonic(), _LEAST_S)
                return self._request_once(method, target, body, headers, left_s)
            except RingmasterError as error:
                now = time.monotonic()
                pause_s = self._retrying.pause_s(error, method, attempt, now, deadline)
                if pause_s is None:
                    raise
            attempt += 1
            time.sleep(pause_s)

    def _request_once(
        self,
        method: str,
        target: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        within_s: float,
    ) -> Reply:
        connection = self._connection
        connection.timeout = within_s
        if connection.sock is not None and _is_readable(connection.sock):
            # Closed by the other side while it was idle: nothing was sent on it, so this is no broken request.
            connection.close()
        if connection.sock is not None:
            connection.sock.settimeout(within_s)
        else:
            try:
                connection.connect()
            except (OSError, UnicodeError) as error:
                raise LinkDown(f"cannot reach {self._url}: {error}") from error
        try:
            connection.request(
                method, target, body or None, {**self._own_headers, **(headers or {})}
            )
            answer = connection.getresponse()
            reply = Reply(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            )
        except ValueError as error:
            # Refused before anything is sent. It keeps what it has of the request, and would send that before the next.
            connection.close()
            self._connection = self._new_connection()
            raise BadRequest(f"the request cannot be sent: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise LinkBroken(
                f"{self._url} gave no reply: {str(error) or type(error).__name__}"
            ) from error
        return checked(reply, method)


def _is_readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
