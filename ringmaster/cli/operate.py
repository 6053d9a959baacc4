"""The commands that talk to a running cluster: `get put delete invalidate status locate eviction`."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from ringmaster.access.sender import VARIABLE, token_from_environment
from ringmaster.cli.exit_codes import NO, exit_code_of
from ringmaster.cli.streams import text_of
from ringmaster.cli.tables import cluster_table
from ringmaster.client.blocking import Client
from ringmaster.client.reply import DEFAULT_URL, Reply, data_target, stored_value
from ringmaster.config.eviction import EvictionPolicy
from ringmaster.config.quantities import parse_duration
from ringmaster.errors import LinkDown, RingmasterError, SettingsError, TokenRefused

_ANY_WIDTH: Final = 10_000
_LONGEST_S: Final = 1e6

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="RINGMASTER_URL",
        help="The URL of the cluster: of its front door, or of any master.",
        callback=text_of,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        envvar="RINGMASTER_TIMEOUT",
        min=0.001,
        metavar="seconds",
        help="How long to wait for a reply of the cluster.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar=VARIABLE,
        show_envvar=False,
        help="The token to send, if the cluster asks for one. Other users see command lines: better in the variable "
        "RINGMASTER_TOKEN, or in a file that RINGMASTER_TOKEN_FILE names.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a text.")]
Key = Annotated[
    str,
    typer.Argument(help="The key: up to 512 bytes of UTF-8.", show_default=False, callback=text_of),
]
Node = Annotated[
    str,
    typer.Argument(
        help="The node's id, as `ringmaster status` lists it.", show_default=False, callback=text_of
    ),
]


def get(
    key: Key,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print a JSON object: key, version, and the value or its base64."
        ),
    ] = False,
) -> None:
    """Print a value, byte for byte. Exit code 1 if there is none."""
    with connected(url, timeout, token) as client:
        reply = client.request("GET", data_target(key))
    if reply.status == 404:
        complain("get", f"no such key: {key}")
        raise typer.Exit(NO)
    value = stored_value(reply, key)
    if json:
        print_json(_described(key, reply, value))
        return
    sys.stdout.buffer.write(value)
    if sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def eviction(
    policy: Annotated[
        EvictionPolicy | None,
        typer.Argument(help="The policy; without one, print which it is.", show_default=False),
    ] = None,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Show or change how the nodes choose what to evict; entries stay."""
    with connected(url, timeout, token) as client:
        if policy is None:
            chosen = str(client.cluster().get("eviction", "lru"))
            say({"eviction": chosen}, chosen, json=json)
        elif not client.set_eviction(policy):
            complain("eviction", f"the cluster has no policy {policy}")
            raise typer.Exit(NO)
        else:
            say({"eviction": str(policy)}, json=json)


def put(
    key: Key,
    value: Annotated[
        str | None,
        typer.Argument(help="The value; without one, or with `-`, the standard input is read."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Take the value from a file.")
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(help="Time to live, in seconds or as 10s, 5m, 2h. Without: no limit."),
    ] = None,
    stale: Annotated[
        str | None,
        typer.Option(help="For how long it is served stale after its ttl: seconds, or 10s, 5m."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="text", help="A tag that it carries; once for each of several."),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            help="The value's content type. Without: text/plain for an argument, else "
            "application/octet-stream."
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="The value is JSON, and is checked and kept as such.")
    ] = False,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
) -> None:
    """Store a value: an argument, a file, or the standard input."""
    with connected(url, timeout, token) as client:
        content, tags = _content(value, file), [text_of(each) for each in tag or ()]
        if json:
            if content_type is not None:
                raise SettingsError("give either --json or --content-type, not both")
            client.post(key, content, ttl_s=_ttl_s(ttl), tags=tags, swr_s=_ttl_s(stale))
            return
        if content_type is None and value not in (None, "-"):
            content_type = "text/plain; charset=utf-8"
        client.put(
            key,
            content,
            content_type=None if content_type is None else text_of(content_type),
            ttl_s=_ttl_s(ttl),
            tags=tags,
            swr_s=_ttl_s(stale),
        )


def delete(
    key: Key,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Remove a key. That it was not there is no error."""
    with connected(url, timeout, token) as client:
        client.delete(key)
    say({"key": key, "deleted": True}, json=json)


def invalidate(
    tags: Annotated[
        list[str],
        typer.Argument(metavar="tag", help="Tags, as `put --tag` gives them.", show_default=False),
    ],
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Remove every entry that carries one of these tags."""
    names = [text_of(each) for each in tags]
    with connected(url, timeout, token) as client:
        client.invalidate(*names)
    say({"tags": names, "invalidated": True}, json=json)


def status(
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="End with exit code 1 if the cluster is degraded or down."),
    ] = False,
) -> None:
    """Show the nodes and the health of the cluster, with what is wrong."""
    with connected(url, timeout, token) as client:
        answer = client.cluster()
        if json or not isinstance(answer, dict):
            print_json(answer)
        else:
            # Only a terminal has a width.
            width = Console().width if sys.stdout.isatty() else None
            console = Console(width=width or _ANY_WIDTH, soft_wrap=True)
            console.print(cluster_table(answer, width))
    if check and not is_well(answer):
        raise typer.Exit(NO)


def locate(
    key: Key,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Show which nodes hold a key, or would: its partition, primary and replicas."""
    with connected(url, timeout, token) as client:
        place = client.locate(key)
    if json or not isinstance(place, dict):
        print_json(place)
        return
    copies = ", ".join(place.get("replicas") or []) or "none"
    typer.echo(
        f"partition {place.get('partition')}: primary {place.get('primary') or 'none'}, "
        f"replicas {copies} (term {place.get('term')}, epoch {place.get('epoch')})"
    )


@contextmanager
def connected(url: str, timeout_s: float, token: str | None) -> Iterator[Client]:
    """A client whose errors end the command with one line and the exit code for them. `token` None: from the environment."""
    with ending():
        if not timeout_s <= _LONGEST_S:
            raise SettingsError(f"--timeout must be a number of seconds up to {_LONGEST_S:g}")
        with Client(url, timeout_s, token=token or token_from_environment()) as client:
            yield client


@contextmanager
def ending() -> Iterator[None]:
    """Errors of ours end the command with one line and the exit code for them."""
    try:
        yield
    except TokenRefused as error:
        complain(
            "error",
            f"{error}; commands take it from --token, RINGMASTER_TOKEN or RINGMASTER_TOKEN_FILE",
        )
        raise typer.Exit(exit_code_of(error)) from None
    except RingmasterError as error:
        unreached = isinstance(error, LinkDown) and "--" not in str(error)
        hint = "; is a cluster running? --url says where" if unreached else ""
        complain("error", f"{error}{hint}")
        raise typer.Exit(exit_code_of(error)) from None


def _content(value: str | None, file: Path | None) -> bytes:
    if file is not None:
        if value is not None:
            raise SettingsError("give either a value or --file, not both")
        try:
            return file.read_bytes()
        except OSError as error:
            raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    if value is None or value == "-":
        try:
            return sys.stdin.buffer.read()
        except OSError as error:
            raise SettingsError(f"cannot read the standard input: {error.strerror}") from error
    return value.encode("utf-8", "surrogateescape")


def _ttl_s(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise SettingsError(f"--ttl: {error}") from error


def is_well(status: Any) -> bool:
    """Whether nobody need look: the reply of `GET /cluster` says `ok`, or that copies are being made."""
    return isinstance(status, dict) and status.get("health") in ("ok", "recovering")


def say(answer: Mapping[str, Any], sentence: str = "", *, json: bool) -> None:
    """What came of a command: JSON if that is wanted, else a sentence, or nothing."""
    if json:
        print_json(answer)
    elif sentence:
        typer.echo(sentence)


def _described(key: str, reply: Reply, value: bytes) -> dict[str, Any]:
    """An entry as `ringmaster snapshot export` has it."""
    entry: dict[str, Any] = {
        "key": key,
        "version": reply.headers.get("etag", "").strip('"') or None,
    }
    content_type = reply.headers.get("content-type", "")
    if content_type.startswith("application/json") and value != reply.body:
        entry["value"] = msgspec.Raw(value)
    else:
        entry["content_type"] = content_type or "application/octet-stream"
        entry["base64"] = b64encode(value).decode()
    return entry


def print_json(answer: Any) -> None:
    """What was asked for, for a program; indented."""
    typer.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())


def complain(command: str, sentence: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"ringmaster {command}: {sentence}\n".replace(" error:", ":", 1))
