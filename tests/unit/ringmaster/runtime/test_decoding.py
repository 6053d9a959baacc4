"""Bytes of others as typed objects: whatever is wrong with them, the error is of one kind."""

from __future__ import annotations

import tomllib

import msgspec
import pytest

from ringmaster.runtime.decoding import decode_json, json_decoder, msgpack_decoder, toml_table


class Row(msgspec.Struct):
    name: str = ""


BAD_JSON = [b"", b"nothing", b'{"name":1}', b'{"name":"\xff"}', b'{"x":' + b"[" * 100_000]
BAD_MSGPACK = [b"", b"\xc1", b"\x81\xa4name\xa1\xff", b"\x81\xa1x" + b"\x91" * 100_000]
BAD_TOML = [b"=", b'a = "\xff"', b"a = " + b"[" * 100_000, b"a = " + b"1" * 5000, b"a = 2026-99-99"]


@pytest.mark.parametrize("raw", BAD_JSON, ids=range(len(BAD_JSON)))
def test_wrong_json_is_a_decode_error(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        json_decoder(Row)(raw)
    with pytest.raises(msgspec.DecodeError):
        decode_json(raw, Row)


@pytest.mark.parametrize("raw", BAD_MSGPACK, ids=range(len(BAD_MSGPACK)))
def test_wrong_msgpack_is_a_decode_error(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgpack_decoder(Row)(raw)


@pytest.mark.parametrize("raw", BAD_TOML, ids=range(len(BAD_TOML)))
def test_wrong_toml_is_a_decode_error(raw: bytes) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        toml_table(raw)


def test_what_is_right_is_read() -> None:
    assert json_decoder(Row)(b'{"name":"a"}') == decode_json(b'{"name":"a"}', Row) == Row("a")
    assert msgpack_decoder(Row)(b"\x81\xa4name\xa1a") == Row("a")
    assert toml_table("a = 'é'\n".encode()) == {"a": "é"}
