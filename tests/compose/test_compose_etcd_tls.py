"""The overlays with etcd and with TLS together: nothing between services is left plain."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.compose.project import ETCD_DOCKERFILES, ETCD_TLS_FILES, Project, obstacle, wait_for
from tests.compose.test_compose_tls import ask, authority_of, inside, is_ready, targets_up


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    if reason := obstacle(ETCD_DOCKERFILES):
        pytest.skip(reason)
    with Project("etcd-tls-test", ETCD_TLS_FILES) as project:
        yield project


@pytest.fixture(scope="module")
def trust(project: Project) -> ssl.SSLContext:
    return authority_of(project)


def test_the_coordinator_is_reached_by_mutual_tls_alone(
    project: Project, trust: ssl.SSLContext
) -> None:
    wait_for("it is ready", lambda: is_ready(project, trust), 90)
    assert ask(project, trust, "/data/a", b"one")[0] == 201
    project.docker("kill", project.containers("etcd1")[0]["Id"])
    wait_for(
        "it is written with one member less",
        lambda: ask(project, trust, "/data/b", b"two")[0] < 300,
    )
    assert ask(project, trust, "/data/a") == (200, b"one")
    project.compose("up", "-d")
    curl = "curl --silent --noproxy '*' --max-time 3 --output /dev/null --write-out '%{http_code}' "
    assert inside(project, "nginx", curl + "http://etcd2:2379/health || true") in {"000", "400"}
    assert inside(project, "nginx", curl + "-k https://etcd2:2379/health || true") == "000"
    shown = "--cert /certificates/link.pem --key /certificates/link.key "
    trusted = "--cacert /certificates/ca.pem "
    assert inside(project, "nginx", curl + trusted + shown + "https://etcd2:2379/health") == "200"
    # Among themselves members want a certificate for the name of the one that calls.
    for certificate in ("-k ", trusted + shown):
        asked = curl + certificate + "https://etcd2:2380/version || true"
        assert inside(project, "nginx", asked) == "000"


def test_prometheus_reaches_all(project: Project) -> None:
    wait_for("all targets are up", lambda: targets_up(project), 60)
