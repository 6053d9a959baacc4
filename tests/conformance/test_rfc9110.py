"""The cases of RFC 9110 §13 and §14: `docs/rfc9110.md` is the table, and says how to read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.fronts import Front, assert_problem
from tests.conformance.raw_http import Response

TABLE = Path(__file__).parents[2] / "docs" / "rfc9110.md"
FOREIGN = '"some-other-tag"'
NEW_VALUE = b"new"
_ticked = re.compile(r"(body )?`([^`]*)`")


@dataclass(frozen=True, slots=True)
class Case:
    """One row. `expected`: header fields with their value, None for any; `absent`: those that must not be there.

    `proxied_status`: through nginx, where that differs.
    """

    name: str
    section: str
    stored: str
    method: str
    query: str
    headers: tuple[tuple[str, str], ...]
    status: int
    expected: dict[str, str | None]
    absent: tuple[str, ...]
    body: bytes | None
    proxied_status: int | None

    @property
    def writes(self) -> bool:
        return self.method not in {"GET", "HEAD", "OPTIONS"}


def field_of(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(": ")
    assert colon, text
    return name, value


def case_of(line: str) -> Case:
    name, section, stored, request, reply, _ = (cell.strip() for cell in line.split("|")[1:-1])
    first, *fields = [found[2] for found in _ticked.finditer(request)]
    method, _, query = first.partition(" ")
    reply, _, proxied = reply.partition(", through nginx ")
    status, *said = _ticked.finditer(reply)
    expected: dict[str, str | None] = {}
    absent: list[str] = []
    body = None
    for found in said:
        if found[1]:
            body = found[2].encode()
        elif found[2].startswith("no "):
            absent.append(found[2].removeprefix("no "))
        else:
            field, _, value = found[2].partition(": ")
            expected[field] = value or None
    headers = tuple(map(field_of, fields))
    return Case(
        name,
        section,
        stored,
        method,
        query,
        headers,
        int(status[2]),
        expected,
        tuple(absent),
        body,
        int(proxied.strip("`")) if proxied else None,
    )


CASES = [
    case_of(line)
    for line in TABLE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| name ")
]


def test_the_table_is_read_whole() -> None:
    assert len(CASES) > 130
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {case.section.split(".")[0] for case in CASES} <= {"5", "13", "14", "15", "17"}


def store(front: Front, key: str, stored: str) -> dict[str, str]:
    """Make the key have what is `stored`, with a version before it; what the words of the table mean then."""
    old = front.request("PUT", f"/data/{key}", (), b"old").etag
    etag = ""
    if stored in {"bytes", "empty"}:
        content = b"0123456789" if stored == "bytes" else b""
        headers = [("Content-Type", "text/plain")]
        etag = front.request("PUT", f"/data/{key}", headers, content).etag
    elif stored == "nothing":
        assert front.request("DELETE", f"/data/{key}").status == 204
    else:
        value = {"json": b"1", "number": b"7", "text": b'"x"'}[stored]
        etag = front.request("POST", "/data", (), item(key, value)).etag
    current = etag or old
    term, seq, salt = current.strip('"').split("-")
    following = f'"{term}-{int(seq, 16) + 1:x}-{salt}"'
    return {"ETAG": etag, "WEAK": f"W/{etag}", "OLD": old, "NEXT": following, "FOREIGN": FOREIGN}


def item(key: str, value: bytes) -> bytes:
    return b'{"key":"%b","value":%b}' % (key.encode(), value)


def send(front: Front, key: str, case: Case, words: dict[str, str]) -> Response:
    headers = [
        (name, re.sub(r"\b(ETAG|WEAK|OLD|NEXT|FOREIGN)\b", lambda found: words[found[1]], value))
        for name, value in case.headers
    ]
    if case.query == "item":
        return front.request("POST", "/data", headers, item(key, b'"new"'))
    body = NEW_VALUE if case.method == "PUT" else None
    return front.request(case.method, f"/data/{key}{case.query}", headers, body)


def assert_stored(front: Front, key: str, case: Case, before: Response, etag: str) -> None:
    """What a request left behind: nothing new unless it succeeded."""
    after = front.request("GET", f"/data/{key}")
    changes = case.writes and case.status < 300
    if not changes or "ttl" in case.query:
        assert (after.status, after.body) == (before.status, before.body)
        if etag:
            assert after.etag == etag
    elif case.method == "DELETE":
        assert after.status == 404
    else:
        assert after.status == 200
        assert after.etag != etag
        assert after.body != before.body


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_rfc_s_case(front: Front, key: str, case: Case) -> None:
    words = store(front, key, case.stored)
    before = front.request("GET", f"/data/{key}")
    reply = send(front, key, case, words)
    if front.proxied and case.proxied_status is not None:
        assert_problem(reply, case.proxied_status)
        return
    assert reply.status == case.status, reply
    for name, value in case.expected.items():
        wanted = words.get(value, value) if value else value
        assert (reply.get(name) == wanted) if wanted else reply.get(name), (name, reply)
    for name in case.absent:
        assert reply.get(name) is None, (name, reply)
    if case.body is not None:
        assert reply.body == case.body
    if case.status >= 400 and case.method != "HEAD":
        assert_problem(reply, case.status)
    if case.status == 304:
        assert reply.get("Content-Range") is None
    assert_stored(front, key, case, before, words["ETAG"])
