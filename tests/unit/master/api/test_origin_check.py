import pytest

from master.http.origin_check import Authority, Forbidden
from ringmaster.errors import BadRequest


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:80",
        "localhost.",
        "app.localhost:8080",
        "127.0.0.1",
        "10.1.2.3:8001",
        "[::1]",
        "[2001:db8::1]:8080",
        "cache.example",
        "CACHE.example:443",
    ],
)
def test_addresses_and_known_names_pass(host: str) -> None:
    authority = Authority([" cache.example "])
    authority.check_host(host)
    authority.check_host(host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "cache.example.evil", "1"],
)
def test_other_names_are_foreign(host: str) -> None:
    authority = Authority(["cache.example"])
    with pytest.raises(Forbidden, match=r"--host-names \(RINGMASTER_HOST_NAMES\)"):
        authority.check_host(host)
    with pytest.raises(Forbidden):
        authority.check_host(host)


@pytest.mark.parametrize(
    "host",
    ["", "a b", "a/b", "user@localhost", "localhost:x", "localhost:99999", "[::1", "é", "a:1:2"],
)
def test_what_is_no_host_is_malformed(host: str) -> None:
    with pytest.raises(BadRequest):
        Authority(["*"]).check_host(host)


def test_a_star_lets_every_name_pass() -> None:
    Authority(["*"]).check_host("anything.example")


def test_memory_of_hosts_is_bounded() -> None:
    authority = Authority(["*"])
    for number in range(1000):
        authority.check_host(f"host{number}.example")
    assert len(authority._seen) <= 64


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("cache.example", "https://cache.example"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_our_own_pages_may_change_things(host: str, origin: str) -> None:
    Authority().check_change(host, origin, "same-origin")
    Authority().check_change(host, origin, None)


def test_programs_send_no_origin() -> None:
    Authority().check_change("localhost", None, None)
    Authority().check_change("localhost", None, "none")


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        ("null", None),
        ("", None),
        ("http://evil.example", None),
        ("http://localhost:81", None),
        ("http://localhost/path", None),
        ("ftp://localhost", None),
        ("http://localhost:x", None),
        ("http://[::1", None),
        (None, "cross-site"),
        (None, "same-site"),
        ("http://localhost", "cross-site"),
    ],
)
def test_other_pages_may_not(origin: str | None, site: str | None) -> None:
    with pytest.raises(Forbidden):
        Authority().check_change("localhost", origin, site)
