"""Bytes of others as typed objects, with one kind of error for whatever may be wrong with them.

msgspec says `DecodeError` of what is not the format, but `UnicodeDecodeError` of text that is not UTF-8 and
`RecursionError` of what is nested too deeply; tomllib is alike. Whoever catches the one would let the others through.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")


def json_decoder(kind: type[_T]) -> Callable[[bytes], _T]:
    """A function from JSON to a `kind`. It raises nothing but `msgspec.DecodeError`."""
    return _strict(msgspec.json.Decoder(kind).decode)


def msgpack_decoder(kind: type[_T]) -> Callable[[bytes], _T]:
    """A function from msgpack to a `kind`. It raises nothing but `msgspec.DecodeError`."""
    return _strict(msgspec.msgpack.Decoder(kind).decode)


def decode_json(raw: bytes, kind: type[_T]) -> _T:
    """JSON that is read seldom, as a `kind`. Raises `msgspec.DecodeError`."""
    return json_decoder(kind)(raw)


def toml_table(raw: bytes) -> dict[str, Any]:
    """The table that a TOML document is. Raises `tomllib.TOMLDecodeError`, also for what is not UTF-8."""
    try:
        return tomllib.loads(raw.decode())
    except tomllib.TOMLDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise tomllib.TOMLDecodeError(f"it is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from error
    except ValueError as error:
        # A number of more digits than Python converts, a date that no calendar has.
        raise tomllib.TOMLDecodeError(f"a value cannot be read: {error}") from error


def _strict(decode: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
    def strict(raw: bytes) -> _T:
        try:
            return decode(raw)
        except UnicodeDecodeError as error:
            raise msgspec.DecodeError(f"a text is not UTF-8 ({error.reason})") from error
        except RecursionError as error:
            raise msgspec.DecodeError("it is nested too deeply") from error

    return strict
