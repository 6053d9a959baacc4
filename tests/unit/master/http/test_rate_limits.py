"""Limits by address and by token: what they let in, what they say, and how much they remember."""

from __future__ import annotations

import http_sf
import pytest

from master.http.access import Access, Gate
from master.http.problem import Problem
from master.http.rate_limits import RateLimits, Ticket
from ringmaster.access.grant import Grant, digest_of, make_grant
from ringmaster.runtime.rate import parse_rate

NOW = 5000.0


def grant(name: str, rate: str = "") -> Grant:
    return make_grant(name, digest_of(name), ["read"], rate=rate)


def access_of(each: Grant) -> Access:
    return Gate([each]).admit(f"Bearer {each.name}")


def refused(limits: RateLimits, peer: str, now: float = NOW) -> Problem | None:
    try:
        limits.enter(peer, "", now)
    except Problem as problem:
        return problem
    return None


def fields(lines: bytes) -> dict[str, dict[str, dict[str, object]]]:
    found = {}
    for line in lines.decode().splitlines():
        name, _, value = line.partition(": ")
        items = http_sf.parse(value.encode(), tltype="list")
        found[name] = {item: dict(parameters) for item, parameters in items}
    return found


def test_without_a_limit_nothing_is_asked() -> None:
    limits = RateLimits()
    limits.adopt([grant("a")])
    assert not limits.active


def test_one_address_takes_nothing_from_another() -> None:
    limits = RateLimits(parse_rate("2/s"))
    assert [refused(limits, "192.0.2.1") is None for _ in range(3)] == [True, True, False]
    assert refused(limits, "192.0.2.2") is None
    assert limits.refused == {"address": 1, "token": 0}


def test_who_is_refused_hears_which_limit_and_how_long_to_wait() -> None:
    limits = RateLimits(parse_rate("30/m,burst=1"))
    assert refused(limits, "192.0.2.1") is None
    problem = refused(limits, "192.0.2.1")
    assert problem is not None
    assert problem.status == 429
    headers = dict(problem.headers)
    assert headers["Retry-After"] == "2"
    assert headers["RateLimit-Policy"] == '"address";q=1;w=2'
    assert headers["RateLimit"] == '"address";r=0;t=2'
    assert problem.fields == {
        "limit": "30/m,burst=1",
        "wait_s": 2.0,
        "violated-policies": ["address"],
    }
    assert "192.0.2.1" in problem.detail
    assert "30 requests a minute" in problem.detail


def test_who_is_refused_pays_nothing() -> None:
    limits = RateLimits(parse_rate("1/s"))
    for _ in range(50):
        refused(limits, "192.0.2.1")
    assert refused(limits, "192.0.2.1", NOW + 1) is None


def test_a_token_is_limited_wherever_it_is_used_and_its_own_rate_goes_before() -> None:
    own, common = grant("own", "1/s"), grant("common")
    limits = RateLimits(token=parse_rate("2/s"))
    limits.adopt([own, common])
    for each, most in ((own, 1), (common, 2)):
        passed = 0
        for peer in range(5):
            ticket = limits.enter(f"192.0.2.{peer}", "", NOW)
            if passed < most:
                limits.enter_token(ticket, access_of(each), NOW)
                passed += 1
            else:
                with pytest.raises(Problem, match=f"token {each.name} may send"):
                    limits.enter_token(ticket, access_of(each), NOW)


def test_what_its_token_refuses_is_given_back_to_its_address() -> None:
    limits = RateLimits(parse_rate("5/s"))
    limits.adopt([grant("a", "1/s")])
    access = access_of(grant("a"))
    limits.enter_token(limits.enter("192.0.2.1", "", NOW), access, NOW)
    for _ in range(9):
        with pytest.raises(Problem):
            limits.enter_token(limits.enter("192.0.2.1", "", NOW), access, NOW)
    assert sum(refused(limits, "192.0.2.1") is None for _ in range(9)) == 4


def test_the_bucket_of_a_token_stays_while_its_rate_does() -> None:
    limits = RateLimits()
    access = access_of(grant("a"))
    limits.adopt([grant("a", "1/h")])
    limits.enter_token(limits.enter("", "", NOW), access, NOW)
    limits.adopt([grant("a", "1/h"), grant("b")])
    with pytest.raises(Problem):
        limits.enter_token(limits.enter("", "", NOW), access, NOW)
    limits.adopt([grant("a", "2/h")])
    limits.enter_token(limits.enter("", "", NOW), access, NOW)
    limits.adopt([grant("a")])
    assert not limits.active


def test_each_item_of_a_bulk_request_counts() -> None:
    limits = RateLimits(parse_rate("10/s"))
    ticket = limits.enter("192.0.2.1", "", NOW)
    ticket.take_more(29, NOW)
    problem = refused(limits, "192.0.2.1")
    assert problem is not None
    assert problem.fields["wait_s"] == pytest.approx(2.1)


def test_a_request_that_others_answer_is_given_back_with_all_its_items() -> None:
    limits = RateLimits(parse_rate("3/s"))
    ticket = limits.enter("192.0.2.1", "", NOW)
    ticket.take_more(40, NOW)
    ticket.give_back(NOW)
    assert [refused(limits, "192.0.2.1") is None for _ in range(4)] == [True, True, True, False]


def test_fields_are_well_formed_and_say_what_is_left_of_both_limits() -> None:
    limits = RateLimits(parse_rate("100/s"))
    limits.adopt([grant("a", "60/m,burst=120")])
    ticket = limits.enter("192.0.2.1", "", NOW)
    limits.enter_token(ticket, access_of(grant("a")), NOW)
    said = fields(ticket.lines(NOW))
    assert said == {
        "RateLimit-Policy": {"address": {"q": 100, "w": 1}, "token": {"q": 120, "w": 120}},
        "RateLimit": {"address": {"r": 99, "t": 1}, "token": {"r": 119, "t": 1}},
    }


def test_where_nothing_is_limited_nothing_is_said() -> None:
    assert Ticket(1).lines(NOW) == b""


def test_what_is_left_is_what_all_masters_have_left() -> None:
    masters = 4
    limits = RateLimits(parse_rate("100/s"), masters=lambda: masters)
    ticket = limits.enter("192.0.2.1", "", NOW)
    assert fields(ticket.lines(NOW))["RateLimit"] == {"address": {"r": 96, "t": 1}}
    assert sum(refused(limits, "192.0.2.1") is None for _ in range(100)) == 24


def test_before_it_knows_of_any_master_the_limit_is_its_own() -> None:
    limits = RateLimits(parse_rate("3/s"), masters=lambda: 0)
    assert sum(refused(limits, "192.0.2.1") is None for _ in range(9)) == 3


def test_the_address_that_was_seen_longest_ago_is_forgotten_when_there_are_too_many() -> None:
    limits = RateLimits(parse_rate("1/h"), most=3)
    for name in "abc":
        assert refused(limits, name) is None
    assert refused(limits, "a") is not None
    assert refused(limits, "d") is None
    assert limits.addresses == 3
    assert refused(limits, "a") is not None
    assert refused(limits, "b") is None
    assert limits.forgotten == 2


def test_forgetting_an_address_whose_bucket_is_full_loses_nothing() -> None:
    limits = RateLimits(parse_rate("1/s"), most=1)
    refused(limits, "a")
    refused(limits, "b", NOW + 2)
    assert limits.forgotten == 0
