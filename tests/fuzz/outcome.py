"""What a function makes of an input: its result, or one of the errors that it may raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import msgspec

from master.http.problem import Problem
from ringmaster.errors import RingmasterError

Refused = RingmasterError | Problem | msgspec.DecodeError
"""The only errors that bytes of others may lead to. Any other exception is a fault."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def outcome(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T | Refused:
    """The result of the call, or the error that refuses it."""
    try:
        return function(*args, **kwargs)
    except (RingmasterError, Problem, msgspec.DecodeError) as error:
        return error


def refuses(found: object) -> bool:
    """Whether `found` is such an error."""
    return isinstance(found, Refused)


def cut(data: bytes) -> list[list[bytes]]:
    """`data` whole, in two pieces, and, if it is short, byte by byte."""
    half = (sum(data) % len(data)) if data else 0
    ways = [[data], [data[:half], data[half:]]]
    if len(data) <= 512:
        ways.append([data[at : at + 1] for at in range(len(data))])
    return ways
