"""Whose address a request counts for: the connection's, unless a trusted proxy says otherwise."""

from __future__ import annotations

import pytest

from master.http.client_address import LOCAL, client_name, networks_of

PROXIES = networks_of("10.0.0.0/8, 2001:db8:ffff::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "name"),
    [
        # By TCP, from who is not trusted: what it claims does not count.
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        # From a trusted proxy: the last that is none.
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.1.2.3", "198.51.100.7"),
        ("10.0.0.1", "10.1.2.3,10.3.2.1", "10.1.2.3"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("2001:db8:ffff::1", "[2001:db8::5]:4711", "2001:db8::/64"),
        # By a unix socket, as from the nginx beside it.
        ("", "198.51.100.7", "198.51.100.7"),
        ("", "", LOCAL),
        ("", "nonsense", LOCAL),
    ],
)
def test_a_request_counts_for(peer: str, forwarded: str, name: str) -> None:
    assert client_name(peer, forwarded, PROXIES) == name


def test_all_of_one_subscriber_counts_as_one() -> None:
    assert client_name("2001:db8:1:2:3:4:5:6", "") == client_name("2001:db8:1:2::9", "")
    assert client_name("2001:db8:1:2::1", "") != client_name("2001:db8:1:3::1", "")


def test_ipv4_within_ipv6_is_the_same_address() -> None:
    assert client_name("::ffff:192.0.2.1", "") == "192.0.2.1"


def test_a_link_local_address_counts_without_its_interface() -> None:
    assert client_name("fe80::1%eth0", "") == "fe80::/64"
