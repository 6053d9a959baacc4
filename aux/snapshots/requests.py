"""Snapshots that somebody asked a node for (`RM.SNAPSHOT`), and how they stand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

_REMEMBERED: Final = 16


class Request:
    """A snapshot that was asked for. `waiting`: partitions not written yet, in a cut numbered above `after`."""

    __slots__ = ("after", "error", "id", "partitions", "waiting")

    def __init__(self, request_id: str, waiting: set[int], after: int) -> None:
        self.id = request_id
        self.after = after
        self.partitions = len(waiting)
        self.waiting = waiting
        self.error = ""

    @property
    def state(self) -> str:
        """`running`, `done` or `failed`."""
        if self.error:
            return "failed"
        return "running" if self.waiting else "done"


class Requests:
    """The last few requests of a node."""

    def __init__(self) -> None:
        self._known: deque[Request] = deque(maxlen=_REMEMBERED)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._known)

    def find(self, request_id: str) -> Request | None:
        """The request of that id, None if it is not remembered."""
        return next((known for known in self._known if known.id == request_id), None)

    def add(self, request_id: str, waiting: set[int], after: int) -> Request:
        """A request for `waiting`, in cuts numbered above `after`."""
        request = Request(request_id, waiting, after)
        self._known.append(request)
        return request

    def settled(self, number: int, cut: int | None) -> bool:
        """A partition was written as of `cut`, or (None) is not the node's any more; whether it must be written again."""
        again = False
        for request in self._known:
            if cut is None or cut > request.after:
                request.waiting.discard(number)
            elif number in request.waiting:
                again = True
        return again

    def failed(self, reason: str) -> None:
        """Writing failed: those that wait have failed."""
        for request in self._known:
            if request.waiting:
                request.error = reason
