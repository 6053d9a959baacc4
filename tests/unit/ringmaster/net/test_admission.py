"""Caps on connections: all, and from one address."""

from __future__ import annotations

import resource

import pytest

from ringmaster.net.admission import SPARE_FILES, Admission, allowed_connections


def test_one_address_takes_no_more_than_its_cap_and_leaves_room_for_others() -> None:
    admission = Admission(3, 2)
    assert [admission.enter("10.0.0.1") for _ in range(2)] == ["", ""]
    assert "from this address" in admission.enter("10.0.0.1")
    assert admission.enter("10.0.0.2") == ""
    assert "3 connections already" in admission.enter("10.0.0.3")
    assert admission.refused == {"all": 1, "address": 1}
    assert admission.total == 3


def test_a_place_is_free_again_once_its_connection_has_ended() -> None:
    admission = Admission(1, 1)
    for _ in range(3):
        assert admission.enter("10.0.0.1") == ""
        assert admission.enter("10.0.0.1")
        admission.leave("10.0.0.1")
    assert admission.total == 0


def test_a_unix_socket_is_counted_and_never_refused() -> None:
    admission = Admission(2, 1)
    assert [admission.enter("") for _ in range(3)] == ["", "", ""]
    assert "2 connections already" in admission.enter("10.0.0.1")
    for _ in range(3):
        admission.leave("")
    assert admission.enter("10.0.0.1") == ""


def test_without_caps_everybody_is_let_in() -> None:
    admission = Admission()
    assert not any(admission.enter("10.0.0.1") for _ in range(1000))


@pytest.fixture
def files() -> object:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_open_files_are_allowed_where_connections_need_them(files: tuple[int, int]) -> None:
    hard = files[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    assert allowed_connections(1000) == 1000
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1000 + SPARE_FILES, hard)
    assert allowed_connections(10) == 10
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1000 + SPARE_FILES, hard)


def test_what_the_system_does_not_allow_is_not_promised(files: tuple[int, int]) -> None:
    assert files[1] < 10**9
    assert allowed_connections(10**9) == files[1] - SPARE_FILES
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (files[1], files[1])
