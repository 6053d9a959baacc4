"""The overlay with TLS: who is served, who is not, and where keys are."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compose.project import DOCKERFILES, TLS_FILES, Project, obstacle, wait_for


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    if reason := obstacle(DOCKERFILES):
        pytest.skip(reason)
    with Project("tls-test", TLS_FILES) as project:
        yield project


@pytest.fixture(scope="module")
def trust(project: Project) -> ssl.SSLContext:
    """What a client has that was given the authority's certificate."""
    return authority_of(project)


def authority_of(project: Project) -> ssl.SSLContext:
    run = ("run", "--rm", "--entrypoint", "cat", "certificates", "/authority/ca.pem")
    told = project.compose(*run)
    return ssl.create_default_context(cadata=told[told.index("-----BEGIN") :])


def ask(
    project: Project, trust: ssl.SSLContext, target: str, body: bytes | None = None
) -> tuple[int, bytes]:
    request = urllib.request.Request(
        f"https://localhost:{project.port}{target}", body, method="GET" if body is None else "PUT"
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    try:
        with opener.open(request, timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def is_ready(project: Project, trust: ssl.SSLContext) -> bool:
    return ask(project, trust, "/readyz")[0] == 200


def inside(project: Project, service: str, script: str) -> str:
    return project.docker("exec", project.containers(service)[0]["Id"], "sh", "-c", script)


def test_clients_are_served_by_tls(project: Project, trust: ssl.SSLContext) -> None:
    wait_for("it is ready", lambda: is_ready(project, trust), 90)
    assert ask(project, trust, "/data/a", b"one")[0] == 201
    assert ask(project, trust, "/data/a") == (200, b"one")
    # A refusal of a body that is still on its way comes back whole, through both.
    assert ask(project, trust, "/data/a", b"x" * (9 * 2**20))[0] == 413


def test_masters_answer_nobody_without_a_certificate(
    project: Project, trust: ssl.SSLContext
) -> None:
    wait_for("it is ready", lambda: is_ready(project, trust), 90)
    curl = "curl --silent --noproxy '*' --max-time 3 --output /dev/null --write-out '%{http_code}' "
    assert inside(project, "nginx", curl + "http://master:8001/healthz || true") == "000"
    assert inside(project, "nginx", curl + "-k https://master:8443/healthz || true") == "000"
    shown = "--cert /certificates/link.pem --key /certificates/link.key -H 'Host: localhost' "
    assert inside(project, "nginx", curl + "-k " + shown + "https://master:8443/healthz") == "200"


def test_keys_are_their_users_and_in_no_variable(project: Project) -> None:
    for service, keys in {"nginx": 2, "master": 1, "aux": 1, "prometheus": 1}.items():
        modes = inside(project, service, "stat -c %a /certificates/*.key").split()
        assert modes == ["600"] * keys, service
        for container in project.containers(service):
            assert "PRIVATE" not in json.dumps(container)


def test_nodes_show_their_health_to_nobody_without_a_certificate(
    project: Project, trust: ssl.SSLContext
) -> None:
    wait_for("it is ready", lambda: is_ready(project, trust), 90)
    curl = "curl --silent --noproxy '*' --max-time 3 --output /dev/null --write-out '%{http_code}' "
    assert inside(project, "nginx", curl + "http://aux:7501/metrics || true") == "000"
    assert inside(project, "nginx", curl + "-k https://aux:7443/metrics || true") == "000"
    shown = "--cert /certificates/link.pem --key /certificates/link.key "
    assert inside(project, "nginx", curl + "-k " + shown + "https://aux:7443/metrics") == "200"


def targets_up(project: Project) -> bool:
    """Whether Prometheus reaches three masters, three nodes and itself."""
    url = f"http://127.0.0.1:{project.prometheus_port}/api/v1/targets"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as reply:
        targets: list[dict[str, Any]] = json.load(reply)["data"]["activeTargets"]
    return len(targets) == 7 and all(each["health"] == "up" for each in targets)


def test_prometheus_reaches_all(project: Project) -> None:
    wait_for("all targets are up", lambda: targets_up(project), 60)
