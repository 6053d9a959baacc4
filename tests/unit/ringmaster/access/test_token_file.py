"""The file of tokens: what is refused, that it is changed in one step, and that nothing secret is in it or in errors."""

import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringmaster.access.grant import (
    LONGEST,
    RIGHTS,
    Grant,
    digest_of,
    is_token,
    make_grant,
    new_token,
)
from ringmaster.access.token_file import add_token, read_tokens, remove_token
from ringmaster.errors import SettingsError

DIGEST = digest_of("secret")


def grant(name: str = "app", digest: str = DIGEST, **more: tuple[str, ...]) -> Grant:
    return make_grant(name, digest, ["read", "write"], **more)


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        read_tokens(path)
    return str(caught.value)


def test_what_was_added_is_read_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    first = grant(prefixes=("app/", 'é"\\/'), tags=("t",))
    second = grant("other.1", digest_of("other"))
    add_token(path, first)
    add_token(path, second)
    assert read_tokens(path) == (first, second)
    remove_token(path, "app")
    assert read_tokens(path) == (second,)
    remove_token(path, "other.1")
    assert read_tokens(path) == ()
    assert os.listdir(tmp_path) == ["tokens.toml"]


def test_a_new_file_is_its_owners_alone_and_a_mode_that_was_given_stays(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    add_token(path, grant())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    add_token(path, grant("b", digest_of("b")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "tokens.toml"
    add_token(real, grant())
    link.symlink_to(real)
    add_token(link, grant("b", digest_of("b")))
    assert link.is_symlink()
    assert len(read_tokens(real)) == 2


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620, 0o666])
def test_a_file_that_others_read_or_the_group_writes_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "tokens.toml", "", mode)
    assert f"has mode {mode:04o}" in refusal(path)
    with pytest.raises(SettingsError):
        add_token(path, grant())


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640])
def test_owner_and_group_may_read_it(tmp_path: Path, mode: int) -> None:
    assert read_tokens(written(tmp_path / "tokens.toml", "", mode)) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("= 3", "is not TOML"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "1" * 5000, "cannot be read"),
        ("x = 3", "write a table [tokens.NAME]"),
        ("tokens = 3", "write a table [tokens.NAME]"),
        ("[tokens]\napp = 3", "write a table [tokens.NAME]"),
        ("[tokens.app]\nrights = ['read']", "token app: sha256, the token's hash, is missing"),
        ("[tokens.app]\nsha256 = 'S'\nrights = ['read']", "must be 64 hexadecimal digits"),
        ("[tokens.app]\nsha256 = 'D'\nrights = ['reed']", "token app: there is no right 'reed'"),
        ("[tokens.app]\nsha256 = 'D'", "token app: it has no right"),
        ("[tokens.app]\nsha256 = 'D'\nrights = 'read'", "rights must be a list of texts"),
        (
            "[tokens.app]\nsha256 = 'D'\nrights = ['read']\nprefixes = [1]",
            "prefixes must be a list",
        ),
        ("[tokens.app]\nsha256 = 'D'\nrights = ['read']\nprefixes = ['']", "a prefix has 1 to"),
        ("[tokens.app]\nsha256 = 'D'\nrights = ['read']\nprefix = ['a']", "no field 'prefix'"),
        ("[tokens.app]\nsha256 = 'D'\nrights = ['admin']\nprefixes = ['a']", "the whole cluster"),
        ("[tokens.app]\nsha256 = 'D'\nrights = ['read']\nrate = 5", "rate must be a text"),
        ("[tokens.app]\nsha256 = 'D'\nrights = ['read']\nrate = '5'", "'5' is not a rate"),
        ("[tokens.'a b']\nsha256 = 'D'\nrights = ['read']", "is no name of a token"),
        (
            "[tokens.a]\nsha256 = 'D'\nrights = ['read']\n[tokens.b]\nsha256 = 'D'\nrights = ['read']",
            "the tokens a and b are the same",
        ),
    ],
)
def test_a_mistake_is_named_and_no_secret_is_told(tmp_path: Path, text: str, said: str) -> None:
    secret = new_token()
    text = text.replace("'S'", repr(secret)).replace("'D'", repr(DIGEST))
    sentence = refusal(written(tmp_path / "tokens.toml", text))
    assert said in sentence
    assert secret not in sentence
    assert DIGEST not in sentence


def test_a_file_that_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    assert "ringmaster token create" in refusal(tmp_path / "none.toml")
    assert "cannot read" in refusal(tmp_path)
    written(tmp_path / "latin.toml", "").write_bytes(b"\xe9")
    assert "is not UTF-8" in refusal(tmp_path / "latin.toml")


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    add_token(path, grant())
    with pytest.raises(SettingsError, match="there is a token app"):
        add_token(path, grant(digest=digest_of("another")))
    with pytest.raises(SettingsError, match="there is no token 'b'"):
        remove_token(path, "b")


def test_a_change_that_fails_leaves_the_file_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "tokens.toml", "nonsense")
    with pytest.raises(SettingsError):
        add_token(path, grant())
    assert path.read_text() == "nonsense"


def test_tokens_are_long_random_and_legal() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(is_token(each) and len(each) >= 43 for each in made)
    assert not is_token("")
    assert not is_token("a b")
    assert not is_token("é")
    assert not is_token("x" * (LONGEST + 1))


_words = st.lists(
    st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1, max_size=20), max_size=3
)


@given(
    rights=st.sets(st.sampled_from([r for r in RIGHTS if r != "admin"]), min_size=1),
    prefixes=_words,
    tags=_words,
    rate=st.sampled_from(["", "500/s", "7/h,burst=9"]),
)
def test_whatever_is_granted_is_written_as_toml(
    tmp_path_factory: pytest.TempPathFactory,
    rights: set[str],
    prefixes: list[str],
    tags: list[str],
    rate: str,
) -> None:
    path = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    made = make_grant("a", DIGEST, rights, prefixes, tags, "2026-11-29T00:00:00+00:00", rate)
    add_token(path, made)
    assert read_tokens(path) == (made,)
    assert tomllib.loads(path.read_text())["tokens"]["a"]["sha256"] == DIGEST
