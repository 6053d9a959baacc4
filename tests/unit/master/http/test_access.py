"""Who is told from whom by a token, and what it permits."""

import pytest

from master.http.access import EVERYTHING, Access, Gate, MissingRight, Unauthorized
from master.http.problem import problem_of
from ringmaster.access.canary import canary_grant, canary_token
from ringmaster.access.grant import Grant, digest_of, make_grant, new_token
from ringmaster.protocol.canary import CANARY_PREFIX

TOKEN = new_token()


def granted(*rights: str, token: str = TOKEN, name: str = "app", **more: tuple[str, ...]) -> Grant:
    return make_grant(name, digest_of(token), rights or ("read", "write"), **more)


def access(*rights: str, **more: tuple[str, ...]) -> Access:
    return Gate([granted(*rights, **more)]).admit(f"Bearer {TOKEN}")


def test_without_tokens_everyone_may_do_everything() -> None:
    for field in (None, "Bearer x", "nonsense"):
        assert Gate().admit(field) is EVERYTHING
    for right in ("read", "write", "admin", "metrics"):
        EVERYTHING.require_key(right, b"k")
    EVERYTHING.require_listing(b"")
    EVERYTHING.require_tag("t")


@pytest.mark.parametrize("field", ["Bearer {}", "bearer {}", "BEARER  {}", " Bearer {} "])
def test_a_token_that_is_listed_is_known(field: str) -> None:
    assert Gate([granted()]).admit(field.format(TOKEN)).name == "app"


@pytest.mark.parametrize(
    ("field", "code"),
    [
        (None, ""),
        ("", ""),
        ("Basic YTpi", ""),
        ("{}", ""),
        ("Bearer", "invalid_token"),
        ("Bearer {}x", "invalid_token"),
        ("Bearer {} {}", "invalid_token"),
        ("Bearer {},", "invalid_token"),
        ("Bearer \udcff", "invalid_token"),
        ("Bearer " + "x" * 600, "invalid_token"),
    ],
)
def test_anything_else_is_401_and_the_token_is_not_repeated(field: str | None, code: str) -> None:
    given = None if field is None else field.replace("{}", TOKEN)
    with pytest.raises(Unauthorized) as caught:
        Gate([granted()]).admit(given)
    problem = problem_of(caught.value, write=True)
    said = f', error="{code}"' if code else ""
    assert (problem.status, problem.name) == (401, "unauthorized")
    assert problem.headers == (("WWW-Authenticate", f'Bearer realm="ringmaster"{said}'),)
    assert TOKEN not in str(problem.body())


def test_no_token_at_all_is_not_the_same_as_no_tokens_in_use() -> None:
    with pytest.raises(Unauthorized):
        Gate([]).admit(f"Bearer {TOKEN}")


def test_a_missing_right_is_named() -> None:
    with pytest.raises(MissingRight) as caught:
        access("read").require("write")
    problem = problem_of(caught.value, write=True)
    assert (problem.status, problem.fields) == (403, {"right": "write"})
    assert problem.detail == "token app does not have the right write"
    challenge = 'Bearer realm="ringmaster", error="insufficient_scope", scope="write"'
    assert problem.headers == (("WWW-Authenticate", challenge),)


@pytest.mark.parametrize("right", ["read", "write", "admin", "metrics"])
def test_no_right_contains_another(right: str) -> None:
    assert [each for each in ("read", "write", "admin", "metrics") if access(right).has(each)] == [
        right
    ]


@pytest.mark.parametrize(
    ("key", "fits"),
    [(b"app/", True), (b"app/1", True), (b"app", False), (b"xapp/", False), (b"\xc3\xa9/x", True)],
)
def test_a_prefix_bounds_the_keys(key: bytes, fits: bool) -> None:
    bound = access(prefixes=("app/", "é/"))
    assert bound.permits("read", key) is fits
    assert not bound.permits("admin", key)
    if fits:
        bound.require_key("write", key)
    else:
        with pytest.raises(MissingRight, match=r"right write only for keys that begin with 'app/'"):
            bound.require_key("write", key)


@pytest.mark.parametrize(
    "key", [b"a.c/1", b"a.c/", b"abc/1", b"a.c", b"z/a.c/", b"a.c/ ", b"a.c/%"]
)
def test_plain_keys_are_matched_as_they_are_permitted(key: bytes) -> None:
    bound = access(prefixes=("a.c/",))
    plain = EVERYTHING.matches_plain(key) is not None
    assert (bound.matches_plain(key) is not None) == (plain and bound.permits("read", key))


@pytest.mark.parametrize(
    ("prefix", "fits"), [(b"app/", True), (b"app/x", True), (b"ap", False), (b"", False)]
)
def test_a_listing_lies_within_a_prefix(prefix: bytes, fits: bool) -> None:
    if fits:
        access(prefixes=("app/",)).require_listing(prefix)
        return
    with pytest.raises(MissingRight, match=r"as in GET /data\?prefix=app/"):
        access(prefixes=("app/",)).require_listing(prefix)


@pytest.mark.parametrize(
    ("more", "fits"),
    [
        ({}, True),
        ({"tags": ("t", "u")}, True),
        ({"tags": ("u",)}, False),
        ({"prefixes": ("app/",)}, False),
        ({"prefixes": ("app/",), "tags": ("t",)}, True),
    ],
)
def test_a_tag_is_invalidated_by_who_may(more: dict[str, tuple[str, ...]], fits: bool) -> None:
    if fits:
        access("write", **more).require_tag("t")
        return
    with pytest.raises(MissingRight, match="only for some tags"):
        access("write", **more).require_tag("t")


def test_a_tag_needs_the_right_to_write() -> None:
    with pytest.raises(MissingRight, match="does not have the right write"):
        access("read", tags=("t",)).require_tag("t")


def test_a_token_that_changed_or_went_is_revoked_and_one_that_stayed_is_not() -> None:
    tokens = {name: new_token() for name in "abc"}

    def grant(name: str, *rights: str) -> Grant:
        return granted(*rights, token=tokens[name], name=name)

    gate = Gate([grant("a"), grant("b"), grant("c")])
    held = {name: gate.admit(f"Bearer {token}") for name, token in tokens.items()}
    gate.replace([grant("a"), grant("b", "read")])
    assert {name: each.revoked for name, each in held.items()} == {"a": False, "b": True, "c": True}
    assert gate.admit(f"Bearer {tokens['a']}") is held["a"]
    assert not gate.admit(f"Bearer {tokens['b']}").has("write")
    with pytest.raises(Unauthorized):
        gate.admit(f"Bearer {tokens['c']}")


CANARY = canary_token("s")


@pytest.mark.parametrize("grants", [None, [granted()]], ids=["open", "tokens"])
def test_the_self_audit_of_masters_is_known_whatever_tokens_are_in_use(
    grants: list[Grant] | None,
) -> None:
    gate = Gate(grants, canary=canary_grant("s"))
    found = gate.admit(f"Bearer {CANARY}")
    assert found.is_canary
    assert found is gate.canary(f"bearer  {CANARY}")
    found.require_key("read", CANARY_PREFIX + b"m1")
    found.require_key("write", CANARY_PREFIX + b"m1")
    for right, key in (("read", b"k"), ("write", b"k"), ("admin", CANARY_PREFIX)):
        with pytest.raises(MissingRight):
            found.require_key(right, key)
    with pytest.raises(MissingRight):
        found.require_tag("t")
    assert gate.tokens == len(grants or ())


@pytest.mark.parametrize(
    "field", [None, "", "Bearer", f"Basic {CANARY}", f"Bearer {canary_token('other')}", "Bearer é"]
)
def test_nobody_else_is_taken_for_it(field: str | None) -> None:
    gate = Gate(canary=canary_grant("s"))
    assert gate.canary(field) is None
    assert gate.admit(field) is EVERYTHING
    assert Gate().canary(f"Bearer {CANARY}") is None
    with pytest.raises(Unauthorized):
        Gate([granted()], canary=canary_grant("s")).admit(field)


def test_its_token_stays_when_the_others_are_replaced() -> None:
    gate = Gate([granted()], canary=canary_grant("s"))
    before = gate.admit(f"Bearer {CANARY}")
    gate.replace([])
    assert gate.admit(f"Bearer {CANARY}") is before
    assert not before.revoked
