"""Secrets are taken out of what goes into an archive; what is none stays readable."""

from __future__ import annotations

import json

import pytest

from ringmaster.cli.diagnose.redaction import Redaction, secret_variables


@pytest.mark.parametrize(
    "form",
    [
        b'a pa55/w"rd b',
        json.dumps({"a": 'pa55/w"rd'}).encode(),
        b"http://x/?p=pa55%2Fw%22rd",
    ],
)
def test_a_value_that_is_known_goes_in_every_form(form: bytes) -> None:
    redaction = Redaction(['pa55/w"rd'])
    cleaned = redaction.clean(form)
    assert b"pa55" not in cleaned
    assert b"[redacted]" in cleaned
    assert redaction.count >= 1


@pytest.mark.parametrize(
    "form",
    [
        b"Authorization: Bearer SECRETSECRET",
        b'"authorization": "Basic SECRETSECRET"',
        b"sent bearer SECRETSECRET==",
        b"rmt_SECRETSECRET",
        b'{"etcd_password":"SECRETSECRET","x":1}',
        b"--etcd-password=SECRETSECRET",
        b"AWS_SECRET_ACCESS_KEY=SECRETSECRET",
        b"etcd://user:SECRETSECRET@host:2379",
        b"-----BEGIN RSA PRIVATE KEY-----\nSECRETSECRET\n-----END RSA PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----\nSECRETSECRET",
    ],
)
def test_what_looks_like_a_secret_goes(form: bytes) -> None:
    assert b"SECRETSECRET" not in Redaction([]).clean(form)


@pytest.mark.parametrize(
    "form",
    [
        b'{"tokens": {"value": "/etc/tokens.toml"}, "rate_limit_token": {"value": "5/s"}}',
        b'ringmaster_token_reloads_total{result="ok"} 5',
        b'{"name": "rate_limit_token", "value": "1000/s"}',
        b"http://127.0.0.1:8080/cluster",
        b"true and a",
    ],
)
def test_what_is_none_stays(form: bytes) -> None:
    assert Redaction(["a", "rue", ""]).clean(form) == form


def test_json_stays_json() -> None:
    row = {"password": 'x"y', "token": "abc", "nested": {"secret": "z" * 40}, "n": 1}
    cleaned = json.loads(Redaction(['x"y']).clean(json.dumps(row).encode()))
    assert cleaned["n"] == 1
    assert cleaned["nested"]["secret"] == "[redacted]"


def test_variables_are_secrets_by_their_names_and_our_settings_are_known_by_themselves() -> None:
    environment = {
        "GITHUB_TOKEN": "0123456789",
        "ASK_TOKEN": "true",
        "RINGMASTER_TOKENS": "/etc/ringmaster/tokens.toml",
        "RINGMASTER_RATE_LIMIT_TOKEN": "100000/s",
        "RINGMASTER_TOKEN": "abcdefghij",
        "HOME": "/home/somebody",
    }
    assert secret_variables(environment) == ["0123456789", "abcdefghij"]
