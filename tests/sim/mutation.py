"""How a switch that breaks a rule is written down: a generator that patches the real code and gives it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Mutant = Callable[[], AbstractContextManager[None]]


class Mutants(dict[str, Mutant]):
    """By name. The instance is the decorator that adds to it."""

    def __call__(self, function: Callable[[], Iterator[None]]) -> Mutant:
        made = contextmanager(function)
        self[function.__name__.replace("_", "-")] = made
        return made
