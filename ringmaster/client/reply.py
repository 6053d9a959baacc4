"""Targets, replies, and which replies are errors: shared by both clients."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from ringmaster.errors import BadRequest, OutcomeUnknown, SettingsError, TokenRefused, Unserved
from ringmaster.runtime.decoding import decode_json

_LONGEST_WAIT_S: Final = 3600.0
DEFAULT_URL: Final = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply; `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises `Unserved` if it is not: then something else than a master answered."""
        try:
            return decode_json(self.body, object)
        except msgspec.DecodeError as error:
            raise Unserved(f"the reply ({self.status}) is not JSON: {self.body[:80]!r}") from error


class _Stored(msgspec.Struct):
    key: str
    value: msgspec.Raw


def check_url(url: str) -> str:
    """The URL without a slash at its end. Raises `SettingsError` unless it is `http://host[:port]`, or the same with https."""
    try:
        parts = urlsplit(url)
        wrong = (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.path not in ("", "/")
        )
        wrong = wrong or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise SettingsError(
            f"{url!r} is not the URL of a cluster; write http://host:port or https://host:port"
        )
    return url.rstrip("/")


CA_VARIABLE: Final = "RINGMASTER_CA"


def tls_context(ca: str | Path | None) -> ssl.SSLContext:
    """To check a cluster's certificate with: by the authorities in file `ca`, or that `RINGMASTER_CA` names, or the system's.

    Raises `SettingsError`.
    """
    file = str(ca or os.environ.get(CA_VARIABLE, "")) or None
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"cannot read the certificates in {file}: {error}") from error


def data_target(key: str, tags: Sequence[str] = (), /, **parameters: str | float | None) -> str:
    """The target for `key`, which goes into the query: there no client or proxy changes it. Raises `BadRequest`."""
    _check_text(key)
    _check_tags(tags)
    given = [(name, value) for name, value in parameters.items() if value is not None]
    return "/data?" + urlencode([("key", key), *given, *(("tag", tag) for tag in tags)])


def tags_target(tags: Sequence[str]) -> str:
    """The target for all entries that carry one of `tags`. Raises `BadRequest`."""
    _check_tags(tags)
    return "/data?" + urlencode([("tag", tag) for tag in tags])


def posted(key: str, value: bytes, tags: Sequence[str] = (), /, **fields: object) -> bytes:
    """The body that POSTs `value`, JSON text that is sent as it is. Raises `BadRequest` if it is none."""
    _check_text(key)
    _check_json(value)
    _check_tags(tags)
    given = {name: field for name, field in {**fields, "tags": list(tags)}.items() if field}
    more = b"".join(b',"%b":%b' % (n.encode(), msgspec.json.encode(v)) for n, v in given.items())
    return b'{"key":' + msgspec.json.encode(key) + more + b',"value":' + value + b"}"


def _check_text(text: str) -> None:
    """An argument of the command line that is not UTF-8 comes with surrogates in it."""
    if not isinstance(text, str):
        raise BadRequest(f"{text!r} is no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{text!r} is not valid UTF-8") from error


def _check_tags(tags: Sequence[str]) -> None:
    """A text is a sequence too, of tags of one letter each."""
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise BadRequest(f'tags are a list of texts such as ["news", "user-7"], not {tags!r}')
    for tag in tags:
        _check_text(tag)


def _check_json(value: bytes) -> None:
    """A mistake in it is told by its place in the value, which the caller knows, not in the body around it."""
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            json.loads(value, parse_constant=_refuse)
        except ValueError as error:
            raise BadRequest(f"the value is no JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("the value is nested too deeply") from error


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON number")


def path_segment(text: str) -> str:
    """`text` as one segment of a path. Raises `BadRequest` if it is not UTF-8."""
    _check_text(text)
    return quote(text, safe="")


def checked(reply: Reply, method: str) -> Reply:
    """The reply, if it is a success, a miss (404) or a failed condition (412).

    Raises `OutcomeUnknown` for a write that may have run (any 5xx that does not say that it has not), `Unserved` for
    what can be tried again (408, 429, 5xx), `TokenRefused` for 401, else `BadRequest`. A redirect, or a 404 that is not a master's, is a
    `BadRequest` too: it must not pass for a success or a miss.
    """
    if reply.status < 300 or reply.status in (304, 412):
        return reply
    ours = reply.headers.get("content-type", "").startswith("application/problem+json")
    if reply.status == 404 and ours:
        return reply
    if reply.status < 400 or reply.status == 404:
        raise BadRequest(f"no cluster answers at this URL, something else does: {reply.status}")
    try:
        problem = decode_json(reply.body, dict[str, Any])
    except msgspec.DecodeError:
        problem = {}
    detail = str(problem.get("detail") or problem.get("title") or f"status {reply.status}")
    if reply.status >= 500 or reply.status in (408, 429):
        harmless = method in ("GET", "HEAD") or reply.status < 500
        if problem.get("outcome", "not-applied" if harmless else "") != "not-applied":
            raise OutcomeUnknown(detail)
        unserved = Unserved(detail)
        unserved.retry_after_s = _retry_after_s(reply, problem)
        raise unserved
    refused = (TokenRefused if reply.status == 401 else BadRequest)(detail)
    refused.status = reply.status
    raise refused


def _retry_after_s(reply: Reply, problem: Mapping[str, Any]) -> float:
    """What a reply says about when to try again: exactly, where it is one of ours."""
    exactly = problem.get("wait_s")
    if isinstance(exactly, (int, float)) and 0 <= exactly <= _LONGEST_WAIT_S:
        return float(exactly)
    stated = reply.headers.get("retry-after", "")
    return min(float(stated), _LONGEST_WAIT_S) if stated.isascii() and stated.isdecimal() else 0.0


def stored_value(reply: Reply, key: str) -> bytes:
    """The value's bytes: the body of a value that was PUT, or the JSON text of one that was POSTed."""
    if reply.headers.get("content-type", "").startswith("application/json"):
        try:
            stored = decode_json(reply.body, _Stored)
        except msgspec.DecodeError:
            return reply.body
        if stored.key == key:
            return bytes(stored.value)
    return reply.body
