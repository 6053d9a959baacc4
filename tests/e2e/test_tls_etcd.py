"""A local cluster whose coordinator is an etcd that wants certificates of its clients."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.contract.certificates import Authority, replace_files
from tests.contract.test_etcd_tls import etcd
from tests.e2e.cluster import Cluster
from tests.e2e.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


def test_a_cluster_runs_on_it_and_takes_new_certificates_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    used = (tmp_path / "client.pem", tmp_path / "client.key")
    replace_files(authority.sign("first"), used)
    with etcd(tmp_path, authority) as store:
        [member] = store.members
        options = ("--coordinator", member.url.replace("https", "etcds"), "--partitions", "16")
        files = ("--etcd-ca", str(authority.ca), "--etcd-cert", str(used[0]), "--etcd-key", str(used[1]))  # fmt: skip
        with Cluster(*options, *files, masters=1, aux=2) as cluster:
            cluster.wait_ready()
            with cluster.client() as client:
                client.put("a", b"one")
                replace_files(authority.sign("second"), used)
                said = "the certificate for etcd was renewed"
                wait_until(
                    lambda: all(said in cluster.log(name) for name in ("master1", "aux1", "aux2")),
                    said,
                    20,
                )
                cluster.nodes["aux1"].kill()
                wait_until(lambda: cluster.status()["health"] == "ok", "the lost node is back", 40)
                assert client.get("a") == b"one"
