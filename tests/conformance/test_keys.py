"""Every legal key makes the round trip, by every way in, and no two are taken for one."""

from __future__ import annotations

import json
import unicodedata
from urllib.parse import quote, quote_plus

import pytest

from tests.conformance.fronts import Front, assert_problem

HARD_KEYS = [
    "/",
    "//",
    "a//b/",
    "a/b",
    "/a",
    "a/",
    ".",
    "..",
    "../../etc",
    "./a",
    "a/../b",
    "a/./b",
    "100%",
    "%41",
    "%2F",
    "a%2Fb",
    "%",
    "a+b",
    "a b",
    " ",
    "?",
    "a?b=c",
    "#",
    "a#b",
    "&",
    "key=1",
    "a;b",
    '"',
    "\\",
    "\\u0041",
    "{}[]<>|^`",
    "bulk",
    "bulk/get",
    "bulk/delete",
    "data",
    "😀",
    "👩‍👩‍👧",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "\u2028",
    "\ufeff",
    "\U0010ffff",
    "k" * 512,
    "é" * 256,
    "😀" * 128,
    "%" * 512,
]


def path_of(key: str) -> str:
    """Everything but unreserved characters encoded, so that nobody on the way touches it."""
    return "/data/" + quote(key, safe="").replace(".", "%2E")


def query_of(key: str) -> str:
    return "/data?key=" + quote_plus(key)


def clients_keep(key: str) -> bool:
    """Whether the key survives in a path: dot segments do not, encoded or not."""
    return not {".", ".."} & set(key.split("/"))


@pytest.mark.parametrize("key", HARD_KEYS, ids=ascii)
def test_a_posted_key_is_read_back_by_query_and_by_path(front: Front, key: str) -> None:
    value = f"posted under {key}"
    written = front.request("POST", "/data", body=json.dumps({"key": key, "value": value}).encode())
    assert written.status in (200, 201)
    assert written.json()["key"] == key
    read = front.request("GET", query_of(key))
    assert read.status == 200
    assert read.json() == {"key": key, "value": value}
    if clients_keep(key) or not front.proxied:
        assert front.request("GET", path_of(key)).json() == {"key": key, "value": value}
    assert front.request("DELETE", query_of(key)).status == 204
    assert front.request("GET", query_of(key)).status == 404


@pytest.mark.parametrize("key", HARD_KEYS, ids=ascii)
def test_a_put_key_is_read_back_by_query_and_by_path(front: Front, key: str) -> None:
    value = f"put under {key}".encode()
    by_path = clients_keep(key) or not front.proxied
    target = path_of(key) if by_path else query_of(key)
    assert front.request("PUT", target, body=value).status in (201, 204)
    for place in (query_of(key), *([path_of(key)] if by_path else [])):
        read = front.request("GET", place)
        assert (read.status, read.body) == (200, value)
        assert front.request("HEAD", place).get("Content-Length") == str(len(value))
    assert front.request("DELETE", target).status == 204


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_no_two_hard_keys_are_one(front: Front, method: str) -> None:
    for number, key in enumerate(HARD_KEYS):
        front.request("DELETE", query_of(key))
        if method == "PUT":
            written = front.request("PUT", query_of(key), body=b"%d" % number)
        else:
            body = json.dumps({"key": key, "value": number}).encode()
            written = front.request("POST", "/data", body=body)
        assert written.status == 201, key
    for number, key in enumerate(HARD_KEYS):
        by_path = clients_keep(key) or not front.proxied
        for place in (query_of(key), *([path_of(key)] if by_path else [])):
            read = front.request("GET", place).json()
            assert read == (number if method == "PUT" else {"key": key, "value": number})
    for key in HARD_KEYS:
        front.request("DELETE", query_of(key))


def test_the_location_of_a_created_key_leads_to_it(front: Front) -> None:
    for key in HARD_KEYS:
        front.request("DELETE", query_of(key))
        created = front.request("PUT", query_of(key), body=key.encode())
        assert created.status == 201
        location = created.get("Location")
        assert location is not None
        assert front.request("GET", location).body == key.encode()
        front.request("DELETE", query_of(key))


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/data/a+b", "a+b"),
        ("/data/%61bc", "abc"),
        ("/data/x%2Fy", "x/y"),
        ("/data/x//y", "x//y"),
        ("/data/x/", "x/"),
        ("/data/%2525", "%25"),
        ("/data/%c3%a9", "é"),
        ("/data/%C3%A9", "é"),
        ("/data?key=a+b", "a b"),
        ("/data?key=a%2Bb", "a+b"),
        ("/data?key=x%2Fy", "x/y"),
        ("/data?key=x/y", "x/y"),
    ],
)
def test_a_target_is_decoded_once_and_never_normalised(front: Front, path: str, key: str) -> None:
    front.request("PUT", query_of(key), body=key.encode())
    assert front.request("GET", path).body == key.encode()
    front.request("DELETE", query_of(key))


BAD_TARGETS = [
    "/data/",
    "/data?key=",
    "/data/%",
    "/data/%4",
    "/data/%zz",
    "/data/a%",
    "/data/%FF",
    "/data/%C3",
    "/data/%ED%A0%80",
    "/data/%00",
    "/data/%0A",
    "/data/%7F",
    "/data/%C2%85",
    "/data/" + "k" * 513,
    "/data/" + "%C3%A9" * 257,
    "/data?key=%",
    "/data?key=%FF",
    "/data?key=a%00b",
    "/data?key=" + "k" * 513,
    "/data?key=a&key=b",
    "/data/a?key=b",
]


@pytest.mark.parametrize("target", BAD_TARGETS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_bad_key_is_400_for_every_method(front: Front, method: str, target: str) -> None:
    body = b"x" if method == "PUT" else None
    response = front.request(method, target, body=body)
    if front.proxied and "%00" in target:
        assert response.status == 400
    else:
        assert_problem(response, 400)


@pytest.mark.parametrize(
    "text",
    [
        r'""',
        r'"\u0000"',
        r'"\n"',
        r'"\u0085"',
        r'"\ud800"',
        r'"\udc00\ud800"',
        '"' + "k" * 513 + '"',
        '"' + "é" * 257 + '"',
        "1",
        "null",
        "[]",
    ],
)
def test_a_bad_key_in_json_is_400(front: Front, text: str) -> None:
    assert_problem(
        front.request("POST", "/data", body=b'{"key":%b,"value":1}' % text.encode()), 400
    )


def test_escapes_in_json_name_the_same_key(front: Front) -> None:
    front.request("POST", "/data", body=rb'{"key":"\ud83d\ude00\u0041\/","value":1}')
    assert front.request("GET", query_of("😀A/")).json()["value"] == 1
    front.request("DELETE", query_of("😀A/"))
