"""`ringmaster token create|list|revoke`: the file of tokens that masters take by `--tokens`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from ringmaster.access.grant import RIGHTS, Grant, digest_of, make_grant, new_token
from ringmaster.access.token_file import add_token, read_tokens, remove_token
from ringmaster.cli.operate import Json, ending, print_json, say
from ringmaster.cli.streams import text_of

_DEFAULT: Final = Path("tokens.toml")

app = typer.Typer(
    name="token",
    help="Make, list and revoke the tokens with which clients identify themselves.",
    short_help="Make, list and revoke clients' tokens.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

TokensFile = Annotated[
    Path,
    typer.Option(
        "--file",
        envvar="RINGMASTER_TOKENS",
        help="The file of tokens, which masters get by their --tokens.",
    ),
]
Name = Annotated[
    str,
    typer.Option(
        "--name", help="What the token is called: in lists, logs and errors.", callback=text_of
    ),
]


@app.command("create")
def create(
    name: Name,
    rights: Annotated[
        str,
        typer.Option(
            "--rights",
            help=f"What it permits: one or more of {', '.join(RIGHTS)}, with commas between.",
        ),
    ],
    prefix: Annotated[
        list[str] | None,
        typer.Option(
            "--prefix",
            metavar="text",
            help="It is good only for keys that begin so; once for each of several. None: all keys.",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="text",
            help="A tag that it may invalidate; once for each of several. None, and no prefix: all tags.",
        ),
    ] = None,
    rate: Annotated[
        str,
        typer.Option(
            "--rate",
            help="How many requests it may send: 500/s, 60/m or 1000/h, and as 500/s,burst=1000 how many at once. "
            "None: what the masters' --rate-limit-token says.",
        ),
    ] = "",
    file: TokensFile = _DEFAULT,
    json: Json = False,
) -> None:
    """Make a token and print it, this once, as the last word.

    The file, made with mode 0600 if there is none, gets its hash. Running masters know it within two seconds.
    """
    token = new_token()
    with ending():
        grant = make_grant(
            name,
            digest_of(token),
            [each.strip() for each in rights.split(",") if each.strip()],
            [text_of(each) for each in prefix or ()],
            [text_of(each) for each in tag or ()],
            datetime.now(UTC).isoformat(timespec="seconds"),
            rate,
        )
        add_token(file, grant)
    sentence = f"{grant.name}: {_scope(grant)}; shown this once: {token}"
    say({**_row(grant), "token": token}, sentence, json=json)


@app.command("list")
def show(file: TokensFile = _DEFAULT, json: Json = False) -> None:
    """Show the tokens of a file and what each permits."""
    with ending():
        grants = read_tokens(file)
    if json:
        print_json([_row(each) for each in grants])
        return
    for each in grants:
        typer.echo(f"{each.name}: {_scope(each)}{f'; made {each.created}' if each.created else ''}")


@app.command("revoke")
def revoke(name: Name, file: TokensFile = _DEFAULT, json: Json = False) -> None:
    """Strike a token out. Running masters refuse it within two seconds."""
    with ending():
        remove_token(file, name)
    say({"name": name, "revoked": True}, f"{name} is revoked", json=json)


def _row(grant: Grant) -> dict[str, object]:
    return {
        "name": grant.name,
        "rights": sorted(grant.rights),
        "prefixes": grant.prefixes,
        "tags": grant.tags,
        "rate": grant.rate or None,
        "created": grant.created or None,
    }


def _scope(grant: Grant) -> str:
    parts = [", ".join(right for right in RIGHTS if right in grant.rights)]
    if grant.prefixes:
        parts.append(f"keys that begin with {', '.join(map(repr, grant.prefixes))}")
    if grant.tags:
        parts.append(f"tags {', '.join(map(repr, grant.tags))}")
    if grant.rate:
        parts.append(f"at most {grant.rate}")
    return "; ".join(parts)
