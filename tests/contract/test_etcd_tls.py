"""etcd that wants a certificate of its clients: who gets in, and what happens when certificates are renewed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from ringmaster.config.settings import AuxSettings, load_settings
from ringmaster.coordinator import Commit
from ringmaster.coordinator.engines import open_coordinator
from ringmaster.coordinator.etcd import EtcdCoordinator, EtcdOptions
from ringmaster.coordinator.etcd_tls import EtcdTls
from ringmaster.errors import CoordinatorUnavailable, SettingsError
from tests.contract.certificates import Authority, replace_files
from tests.contract.etcd_server import EtcdCluster

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def options_of(authority: Authority) -> list[str]:
    """What makes etcd speak TLS, and only with who shows a certificate of that authority."""
    certificate, key = authority.sign("server")
    files = ["--cert-file", certificate, "--key-file", key, "--trusted-ca-file", authority.ca]
    return [*map(str, files), "--client-cert-auth"]


@contextmanager
def etcd(folder: Path, authority: Authority) -> Iterator[EtcdCluster]:
    cluster = EtcdCluster(folder, tls=options_of(authority), client=authority.sign("test"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@asynccontextmanager
async def opened(cluster: EtcdCluster, options: EtcdOptions) -> AsyncIterator[EtcdCoordinator]:
    coordinator = EtcdCoordinator([member.url for member in cluster.members], options)
    try:
        yield coordinator
    finally:
        await coordinator.close()


async def test_each_side_wants_a_certificate_of_the_other(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.sign("client")
    with etcd(tmp_path, authority) as cluster:
        good = EtcdOptions(ca=authority.ca, certificate=certificate, key=key)
        async with opened(cluster, good) as one:
            assert await one.commit(Commit(put={"view": b"v"}), 10.0)
        for bad, reason in (
            (EtcdOptions(ca=authority.ca), None),
            (EtcdOptions(certificate=certificate, key=key), "certificate"),
        ):
            async with opened(cluster, bad) as other:
                with pytest.raises(CoordinatorUnavailable, match=reason):
                    await other.read("view", 0.5)


async def test_certificates_and_authority_are_renewed_while_it_runs(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    used = tuple(tmp_path / name for name in ("ca.pem", "client.pem", "client.key"))
    replace_files((old.ca, *old.sign("client")), used)
    ca, certificate, key = used
    with etcd(tmp_path, old) as cluster:
        options = EtcdOptions(ca=ca, certificate=certificate, key=key)
        async with opened(cluster, options) as one:
            assert await one.commit(Commit(put={"view": b"v"}), 10.0)
            [member] = cluster.members
            member.kill()
            member.command[member.command.index("--cert-file") :] = options_of(new)
            member.start()
            # The old authority has signed neither side's certificate any more.
            with pytest.raises(CoordinatorUnavailable):
                await one.read("view", 3.0)
            replace_files((new.ca, *new.sign("client")), used)
            async with asyncio.timeout(30):
                while True:
                    try:
                        assert (await one.read("view", 2.0))["view"].value == b"v"
                        break
                    except CoordinatorUnavailable:
                        continue


class Now:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        self.s += 10.0
        return self.s


def test_files_that_cannot_be_used_leave_the_old_ones_in_use(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.sign("client")
    tls = EtcdTls(authority.ca, certificate, key, Now())
    first = tls.context()
    assert tls.context() is first
    good = key.read_bytes()
    key.write_text("no key\n")
    assert tls.context() is first
    # A certificate without its key is half of a pair, which comes a moment before the other half.
    _, other_key = authority.sign("other")
    replace_files((other_key,), (key,))
    assert tls.context() is first
    key.write_bytes(good)
    second = tls.context()
    assert second is not first
    assert tls.context() is second


@pytest.mark.parametrize("options", [{"ca": "missing"}, {"certificate": "missing"}])
def test_files_that_cannot_be_read_are_named_at_the_start(
    tmp_path: Path, options: dict[str, str]
) -> None:
    given = EtcdOptions(**{name: tmp_path / file for name, file in options.items()})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"--etcd-ca, --etcd-cert and --etcd-key \(.*missing"):
        open_coordinator("etcds://a:1", tmp_path, None, given)


def test_a_key_without_its_certificate_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--etcd-key goes with --etcd-cert"):
        load_settings(AuxSettings, etcd_key=tmp_path / "key.pem")
