"""The commands that talk to a running cluster: `get put delete invalidate status locate`.

Exit codes: 0 done, 1 not there, 2 a mistake in the command, 3 not reachable or not able to serve now.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from ringmaster.access.sender import VARIABLE, token_from_environment
from ringmaster.cli.streams import USAGE, text_of
from ringmaster.cli.tables import cluster_table
from ringmaster.client.blocking import Client
from ringmaster.client.reply import DEFAULT_URL
from ringmaster.config.eviction import EvictionPolicy
from ringmaster.config.quantities import parse_duration
from ringmaster.errors import BadRequest, LinkDown, RingmasterError, SettingsError, TokenRefused

MISS: Final = 1
UNAVAILABLE: Final = 3
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


def get(key: Key, url: Url = DEFAULT_URL, timeout: Timeout = 10.0, token: Token = None) -> None:
    """Print a value, byte for byte. Exit code 1 if there is none."""
    with connected(url, timeout, token) as client:
        value = client.get(key)
    if value is None:
        complain("get", f"no such key: {key}")
        raise typer.Exit(MISS)
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
) -> None:
    """Show or change how the nodes choose what to evict; entries stay."""
    with connected(url, timeout, token) as client:
        if policy is None:
            sys.stdout.write(f"{client.cluster().get('eviction', 'lru')}\n")
        elif not client.set_eviction(policy):
            complain("eviction", f"the cluster has no policy {policy}")
            raise typer.Exit(MISS)


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


def delete(key: Key, url: Url = DEFAULT_URL, timeout: Timeout = 10.0, token: Token = None) -> None:
    """Remove a key. That it was not there is no error."""
    with connected(url, timeout, token) as client:
        client.delete(key)


def invalidate(
    tags: Annotated[
        list[str],
        typer.Argument(metavar="tag", help="Tags, as `put --tag` gives them.", show_default=False),
    ],
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
) -> None:
    """Remove every entry that carries one of these tags."""
    with connected(url, timeout, token) as client:
        client.invalidate(*(text_of(each) for each in tags))


def status(
    url: Url = DEFAULT_URL, timeout: Timeout = 10.0, token: Token = None, json: Json = False
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
        raise typer.Exit(USAGE) from None
    except (BadRequest, SettingsError) as error:
        complain("error", str(error))
        raise typer.Exit(USAGE) from None
    except LinkDown as error:
        hint = "" if "--" in str(error) else "; is a cluster running? --url says where"
        complain("error", f"{error}{hint}")
        raise typer.Exit(UNAVAILABLE) from None
    except RingmasterError as error:
        complain("error", str(error))
        raise typer.Exit(UNAVAILABLE) from None


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


def print_json(answer: Any) -> None:
    """What was asked for, for a program; indented."""
    typer.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())


def complain(command: str, sentence: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"ringmaster {command}: {sentence}\n".replace(" error:", ":", 1))
