"""What replies of masters say to the self-audit."""

import json

import pytest

from master.audit.answers import Answer, Answered, answer_of

PROBLEM = "application/problem+json"


def problem(status: int, name: str, **fields: str) -> Answer:
    body = {"type": f"/docs#{name}", "status": status, "detail": "so it is", **fields}
    return answer_of(status, {"content-type": PROBLEM}, json.dumps(body).encode())


def test_a_hit_names_value_version_and_node() -> None:
    headers = {"etag": '"5-1f-0a0b0c0d"', "cache-status": "ringmaster; hit; ttl=42; detail=aux1"}
    assert answer_of(200, headers, b"17") == Answer(
        Answered.DONE, 17, "5-1f-0a0b0c0d", "aux1", is_restored=False
    )


def test_a_restored_value_is_known_as_one() -> None:
    headers = {"cache-status": "ringmaster; hit; detail=restored"}
    assert answer_of(200, headers, b"17").is_restored


@pytest.mark.parametrize("body", [b"", b"x", b"-1", b'"1"', b"9" * 30, "١".encode()])
def test_what_is_no_number_of_ours_is_none(body: bytes) -> None:
    assert answer_of(200, {}, body).value == 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (answer_of(201, {}, b""), Answered.DONE),
        (answer_of(204, {}, b""), Answered.DONE),
        (problem(404, "no-such-key"), Answered.MISSED),
        (problem(404, "no-such-route"), Answered.REFUSED),
        (answer_of(404, {}, b"<h1>not here</h1>"), Answered.REFUSED),
        (problem(503, "unavailable"), Answered.UNSERVED),
        (problem(503, "unavailable", outcome="not-applied"), Answered.UNSERVED),
        (problem(503, "unavailable", outcome="unknown"), Answered.UNKNOWN),
        (problem(503, "overloaded"), Answered.REFUSED),
        (problem(503, "too-many-connections"), Answered.REFUSED),
        (problem(429, "quota-exceeded"), Answered.REFUSED),
        (problem(401, "unauthorized"), Answered.REFUSED),
        (problem(500, "internal-error"), Answered.UNKNOWN),
        (answer_of(502, {"content-type": PROBLEM}, b"{"), Answered.UNKNOWN),
        (answer_of(302, {}, b""), Answered.REFUSED),
    ],
)
def test_what_a_reply_says(answer: Answer, kind: Answered) -> None:
    assert answer.kind is kind
