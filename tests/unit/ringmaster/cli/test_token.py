"""`ringmaster token`: the token is printed once, as the last word; the file has its hash."""

from pathlib import Path

import msgspec
from typer.testing import CliRunner, Result

from ringmaster.access.grant import digest_of
from ringmaster.access.token_file import read_tokens
from ringmaster.cli.app import app


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["token", *words])


def test_create_prints_the_token_as_the_last_word_and_keeps_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    given = ["--file", str(path), "--name", "app", "--rights", "read, write", "--prefix", "app/"]
    made = run("create", *given, "--prefix", "web/")
    assert made.exit_code == 0, made.output
    token = made.output.split()[-1]
    (grant,) = read_tokens(path)
    assert grant.digest == digest_of(token)
    assert (grant.rights, grant.prefixes) == (frozenset({"read", "write"}), ("app/", "web/"))
    assert token not in path.read_text()
    assert token not in run("list", "--file", str(path)).output


def test_list_shows_what_each_permits(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    run("create", "--file", str(path), "--name", "ops", "--rights", "admin,read")
    run("create", "--file", str(path), "--name", "a", "--rights", "write", "--tag", "t")
    run("create", "--file", str(path), "--name", "b", "--rights", "read", "--rate", "9/m")
    lines = run("list", "--file", str(path)).output.splitlines()
    assert lines[0].startswith("ops: read, admin; made 2")
    assert lines[1].startswith("a: write; tags 't'; made 2")
    assert lines[2].startswith("b: read; at most 9/m; made 2")
    rows = msgspec.json.decode(run("list", "--file", str(path), "--json").output)
    assert [row["name"] for row in rows] == ["ops", "a", "b"]
    assert [row["rate"] for row in rows] == [None, None, "9/m"]
    assert not {"sha256", "digest"} & rows[0].keys()


def test_revoke_strikes_it_out(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    run("create", "--file", str(path), "--name", "app", "--rights", "read")
    assert run("revoke", "--file", str(path), "--name", "app").exit_code == 0
    assert read_tokens(path) == ()
    assert run("revoke", "--file", str(path), "--name", "app").exit_code == 2


def test_mistakes_end_with_one_sentence(tmp_path: Path) -> None:
    path = str(tmp_path / "tokens.toml")
    wrong = run("create", "--file", path, "--name", "app", "--rights", "reed")
    assert wrong.exit_code == 2
    assert "there is no right 'reed'" in wrong.output
    assert run("list", "--file", path).exit_code == 2
    wrong = run("create", "--file", path, "--name", "app", "--rights", "read", "--rate", "9")
    assert wrong.exit_code == 2
    assert "token app: '9' is not a rate; write requests by time, 500/s" in wrong.output
