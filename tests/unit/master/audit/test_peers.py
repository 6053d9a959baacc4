"""Where masters are reached by the self-audit."""

from master.audit.peers import Peer, peers_of
from ringmaster.cluster.registration import MasterRow

OWN = MasterRow(id="m1", address="10.0.0.1:8001", boot_id="b1")


def test_all_masters_in_their_order() -> None:
    rows = [OWN, MasterRow(id="m2", address="10.0.0.2:8001", boot_id="b2")]
    found = peers_of(rows, OWN, "b1", has_certificate=False)
    assert found == [Peer("m1", "http://10.0.0.1:8001"), Peer("m2", "http://10.0.0.2:8001")]


def test_one_that_is_not_listed_yet_reaches_itself() -> None:
    assert peers_of([], OWN, "b1", has_certificate=False) == [Peer("m1", "http://10.0.0.1:8001")]


def test_with_certificates_they_are_reached_by_tls_where_they_listen_so() -> None:
    rows = [
        OWN,
        MasterRow(id="m2", address="127.0.0.1:8001", tls="m2:8443", boot_id="b2"),
    ]
    found = peers_of(rows, OWN, "b1", has_certificate=True)
    assert [peer.url for peer in found] == ["http://10.0.0.1:8001", "https://m2:8443"]


def test_those_that_only_their_own_host_reaches_are_left_out() -> None:
    rows = [
        MasterRow(id="m2", address="127.0.0.1:8002", boot_id="b1"),
        MasterRow(id="m3", address="127.0.0.1:8003", boot_id="b2"),
        MasterRow(id="m4", address="[::1]:8003", boot_id="b2"),
        MasterRow(id="m5", address="h5:0", boot_id="b1"),
    ]
    found = peers_of(rows, OWN, "b1", has_certificate=False)
    assert [peer.id for peer in found] == ["m2", "m1"]


def test_one_that_listens_on_loopback_alone_reaches_itself() -> None:
    own = MasterRow(id="m1", address="127.0.0.1:8001", tls="")
    assert peers_of([], own, "b1", has_certificate=True) == [Peer("m1", "http://127.0.0.1:8001")]
