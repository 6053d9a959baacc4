"""The HTTP side when something behind it or before it fails: a real server in front of a fake router."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from master.http.limits import Limits
from ringmaster.cluster.view import Partition, View
from ringmaster.errors import OutcomeUnknown, RingmasterError, Shed, TooLarge, Unserved
from tests.conformance.raw_http import Connection, Response, request_bytes
from tests.e2e.waiting import wait_until
from tests.fakes.master import FakeMaster

LIMITS = Limits(
    max_value=100_000,
    header_s=0.3,
    body_s=0.4,
    keepalive_s=0.5,
    drain_s=0.3,
    buffered_bytes=150_000,
)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, LIMITS).running() as running:
        yield running


def ask(
    master: FakeMaster,
    method: str,
    target: str,
    headers: list[tuple[str, str]] | None = None,
    body: bytes | None = None,
) -> Response:
    connection = Connection(master.address)
    try:
        return connection.request(method, target, headers or [], body)
    finally:
        connection.close()


def problem(response: Response, status: int) -> dict[str, object]:
    assert response.status == status
    assert response.get("Content-Type") == "application/problem+json"
    body: dict[str, object] = response.json()
    return body


WRITES = [
    ("POST", "/data", b'{"key":"x","value":1}'),
    ("PUT", "/data/x", b"1"),
    ("DELETE", "/data/x", None),
    ("POST", "/data/x?incr=1", None),
    ("POST", "/data/x?ttl=1", None),
]


@pytest.mark.parametrize(("method", "target", "body"), WRITES)
@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (Unserved("no primary"), "not-applied"),
        (Shed("too much"), "not-applied"),
        (OutcomeUnknown("the link broke"), "unknown"),
        (RingmasterError("something else"), "unknown"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_failed_write_is_503_and_says_what_became_of_it(
    master: FakeMaster,
    method: str,
    target: str,
    body: bytes | None,
    failure: RingmasterError,
    outcome: str,
) -> None:
    master.router.failure = failure
    response = ask(master, method, target, body=body)
    assert problem(response, 503)["outcome"] == outcome
    assert response.get("Retry-After") == "1"
    assert master.observed.seen[-1] == (method, 503, "error")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_failed_read_is_503_without_an_outcome(master: FakeMaster, method: str) -> None:
    master.router.failure = Unserved("no primary")
    response = ask(master, method, "/data/x")
    assert response.status == 503
    assert response.get("Retry-After") == "1"
    if method == "GET":
        assert "outcome" not in problem(response, 503)


def test_an_entry_that_can_never_fit_is_413(master: FakeMaster) -> None:
    master.router.failure = TooLarge("larger than a node's budget")
    problem(ask(master, "PUT", "/data/x", body=b"x"), 413)


def test_a_dead_node_fails_its_own_items_of_a_bulk_request(master: FakeMaster) -> None:
    master.router.failing_keys = {b"b": OutcomeUnknown("broke"), b"c": Unserved("none")}
    items = b'[{"key":"a","value":1},{"key":"b","value":1},{"key":"c","value":1}]'
    results = ask(master, "POST", "/data/bulk", body=items).json()["results"]
    assert [each["status"] for each in results] == [201, 503, 503]
    assert [each.get("outcome") for each in results] == [None, "unknown", "not-applied"]
    read = ask(master, "POST", "/data/bulk/get", body=b'["a","b","c"]').json()
    assert read["values"] == {"a": 1}
    assert set(read["errors"]) == {"b", "c"}
    assert "outcome" not in read["errors"]["b"]
    gone = ask(master, "POST", "/data/bulk/delete", body=b'["a","b"]').json()
    assert gone["deleted"] == 1
    assert gone["errors"]["b"]["outcome"] == "unknown"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 6.0),
        ([("Ringmaster-Timeout", "0.25")], 0.25),
        ([("Ringmaster-Timeout", "60")], 6.0),
        ([("Prefer", "wait=2")], 2.0),
        ([("Prefer", "handling=lenient, wait=3; foo"), ("Ringmaster-Timeout", "5")], 3.0),
        ([("Prefer", "wait=99")], 6.0),
        ([("Prefer", "await=1")], 6.0),
    ],
)
def test_a_client_can_lower_the_deadline(
    master: FakeMaster, headers: list[tuple[str, str]], seconds: float
) -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    ask(master, "PUT", "/data/x", headers, b"x")
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before + seconds <= master.router.deadlines[-1] <= after + seconds


def test_bad_input_never_reaches_a_node(master: FakeMaster) -> None:
    for target, headers, body in (
        ("/data/%", [], b"x"),
        ("/data/x?ttl=-1", [], b"x"),
        ("/data/x", [("If-Match", "x")], b"x"),
        ("/data/x", [("Host", "evil.example")], b"x"),
        ("/data/x", [("Origin", "http://evil.example")], b"x"),
        ("/data/x", [("Ringmaster-Timeout", "x")], b"x"),
        ("/data/x", [], b"x" * 100_001),
    ):
        assert 400 <= ask(master, "PUT", target, headers, body).status < 500
    assert master.router.asked == 0


def test_headers_that_do_not_come_are_408(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        connection.send(b"GET /data/x HTTP/1.1\r\nHost: loc")
        problem(connection.read_response(), 408)
        assert connection.closed_by_peer()


def test_headers_that_come_drop_by_drop_are_408(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.02):
                connection.send(b"x")

        connection.send(b"GET /data/x HTTP/1.1\r\nX-Slow: ")
        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            problem(connection.read_response(), 408)
        finally:
            stop.set()
            dripping.join()


def test_a_body_that_does_not_come_is_408(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        connection.send(request_bytes("PUT", "/data/x", [("Content-Length", "10")]) + b"half")
        problem(connection.read_response(), 408)
        assert connection.closed_by_peer()
    assert master.router.asked == 0


def test_an_idle_connection_is_closed(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        assert connection.closed_by_peer()
    with Connection(master.address) as connection:
        connection.request("GET", "/data/x")
        assert connection.closed_by_peer()


def test_bodies_in_memory_are_bounded_and_given_back(master: FakeMaster) -> None:
    held = [Connection(master.address) for _ in range(2)]
    try:
        announced = request_bytes("PUT", "/data/a", [("Content-Length", "90000")])
        held[1].send(request_bytes("PUT", "/data/d", [("Content-Length", "90000")]) + b"x")
        held[0].send(announced + bytes(89_999))
        wait_until(lambda: master.budget.used == 90_000, "what has arrived is counted")
        refused = ask(master, "PUT", "/data/b", body=bytes(90_000))
        assert problem(refused, 503)["outcome"] == "not-applied"
        assert ask(master, "PUT", "/data/c", body=bytes(1000)).status == 201
        held[0].send(b"x")
        assert held[0].read_response().status == 201
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: master.budget.used == 0, "everything is given back")
    assert ask(master, "PUT", "/data/b", body=bytes(90_000)).status == 201


def test_a_body_that_stalls_gives_up_its_place_to_one_that_sends(tmp_path: Path) -> None:
    limits = replace(LIMITS, body_s=30.0, body_rate=1e9)
    with FakeMaster(tmp_path, limits).running() as master, Connection(master.address) as stalled:
        head = request_bytes("PUT", "/data/a", [("Content-Length", "90000")])
        stalled.send(head + bytes(70_000))
        wait_until(lambda: master.budget.used == 70_000, "what has arrived is counted")

        def written() -> bool:
            return ask(master, "PUT", "/data/b", body=bytes(90_000)).status == 201

        wait_until(written, "the other has its place")
        problem(stalled.read_response(), 408)
        assert stalled.closed_by_peer()
        assert master.budget.evicted == 1
        assert ask(master, "GET", "/data/a").status == 404


def test_a_chunked_body_counts_as_it_grows(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        head = [("Transfer-Encoding", "chunked")]
        connection.send(request_bytes("PUT", "/data/a", head) + b"ffff\r\n" + bytes(0xFFFF))
        wait_until(lambda: master.budget.used >= 0xFFFF, "the chunk is counted")
    wait_until(lambda: master.budget.used == 0, "everything is given back")


def test_an_error_before_a_small_body_keeps_the_connection(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        problem(connection.request("PUT", "/data/%", (), bytes(90_000)), 400)
        assert connection.request("GET", "/data/x").status == 404


def test_an_error_before_a_large_body_closes_but_is_read(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        head = request_bytes("PUT", "/data/x", [("Content-Length", str(3 * 2**20))])
        connection.send(head + bytes(2**19))
        response = connection.read_response()
        problem(response, 413)
        assert response.get("Connection") == "close"


def test_a_clients_mistakes_and_absence_are_not_logged(
    master: FakeMaster, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    for raw in (
        b"garbage\r\n\r\n",
        b"PUT /data/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        request_bytes("PUT", "/data/x", [("Content-Length", "10")]) + b"half",
        request_bytes("GET", "/data/%FF"),
        request_bytes("POST", "/data", body=b"{"),
        b"\x00" * 100,
    ):
        connection = Connection(master.address)
        connection.send(raw)
        connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.recv(10)
        connection.close()
    assert ask(master, "GET", "/healthz").status == 200
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_bug_is_500_without_its_traceback(
    master: FakeMaster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(master.router, "read", broken)
    response = ask(master, "GET", "/data/x")
    assert "secret" not in str(problem(response, 500))
    assert response.get("Connection") == "close"
    assert master.observed.seen[-1] == ("GET", 500, "error")
    assert "secret detail" in "".join(capsys.readouterr())


def test_outcomes_are_observed(master: FakeMaster) -> None:
    ask(master, "GET", "/data/x")
    ask(master, "PUT", "/data/x", body=b"1")
    ask(master, "GET", "/data/x")
    ask(master, "HEAD", "/data/x")
    ask(master, "HEAD", "/data/missing")
    ask(master, "GET", "/data/%")
    assert master.observed.seen == [
        ("GET", 404, "miss"),
        ("PUT", 201, "ok"),
        ("GET", 200, "hit"),
        ("HEAD", 200, "ok"),
        ("HEAD", 404, "ok"),
        ("GET", 400, "error"),
    ]


def test_readiness_gives_its_reasons(master: FakeMaster) -> None:
    master.view = View(cluster="c" * 32, epoch=0, replicas=2, table=(Partition(),) * 8)
    response = ask(master, "GET", "/readyz")
    assert problem(response, 503)["reasons"] == ["8 of 8 partitions have no primary"]
    assert response.get("Retry-After")
    assert ask(master, "GET", "/cluster").json()["health"] == "down"
    assert ask(master, "GET", "/healthz").status == 200


def test_operators_requests_are_keys_in_the_coordinator(master: FakeMaster) -> None:
    def keys() -> set[str]:
        return set(master.call(master.coordinator.read, "admin/")) - {"admin/drains"}

    assert ask(master, "POST", "/cluster/nodes/aux1/drain?force=1").status == 202
    assert ask(master, "POST", "/cluster/rebalance/pause").status == 204
    assert keys() == {"admin/drain/aux1", "admin/pause"}
    assert ask(master, "DELETE", "/cluster/nodes/aux1/drain").status == 202
    assert ask(master, "POST", "/cluster/rebalance/resume").status == 204
    assert keys() == set()
    nodes = {**master.view.nodes}
    nodes["aux2"] = type(nodes["aux2"])(id="aux2", incarnation="", address="", up=False)
    master.view = View(cluster="c" * 32, epoch=8, replicas=1, table=master.view.table, nodes=nodes)
    assert ask(master, "DELETE", "/cluster/nodes/aux2").status == 202
    assert keys() == {"admin/forget/aux2"}


def test_after_the_word_to_close_each_connection_ends_with_its_next_reply(
    master: FakeMaster,
) -> None:
    with Connection(master.address) as connection:
        assert connection.request("GET", "/healthz").get("Connection") is None
        master.call(master.close_after_replies)
        assert connection.request("GET", "/healthz").get("Connection") == "close"
        assert connection.closed_by_peer()


def test_limits_leave_room_for_the_largest_item() -> None:
    assert replace(LIMITS, max_value=10).max_item == 10 + 64 * 1024
