"""When nodes were lost lately, for the flap guard: kept in the coordinator, so that a new controller knows it too.

Times in memory are boottime, in seconds, of this machine; in the record they are wall time. A wall clock that steps
changes for how long a node is held off, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from master.control.planning.node_verdicts import FLAP_WINDOW_S

LOSSES_KEY: Final = "losses"
LOSSES_KEPT: Final = 16
"""Of each node: more do not change for how long it is held off."""

_decoder = msgspec.json.Decoder(dict[str, list[float]])


class Losses:
    """By node id. Forgets what is older than the flap window."""

    def __init__(self) -> None:
        self._times: dict[str, tuple[float, ...]] = {}

    def times(self) -> Mapping[str, tuple[float, ...]]:
        """Boottimes, ascending."""
        return dict(self._times)

    def with_lost(self, nodes: Iterable[str], now: float) -> Losses:
        """These, and `nodes` that are lost now."""
        after = Losses()
        after._times = {
            node: times for node in self._times if (times := self._recent(self._times[node], now))
        }
        for node in nodes:
            after._times[node] = (*after._times.get(node, ()), now)[-LOSSES_KEPT:]
        return after

    def encode(self, now: float, wall: float) -> bytes:
        """For the record. `now` and `wall`: both clocks, read together."""
        return msgspec.json.encode(
            {
                node: [round(wall - (now - time), 3) for time in times]
                for node, times in self._times.items()
            }
        )

    @classmethod
    def decode(cls, raw: bytes, now: float, wall: float) -> Losses:
        """The inverse. What cannot be read is as good as nothing; what lies in the future was just now."""
        losses = cls()
        try:
            found = _decoder.decode(raw)
        except msgspec.DecodeError:
            return losses
        for node, walls in found.items():
            times = sorted(now - max(0.0, wall - time) for time in walls)
            if recent := cls._recent(times, now):
                losses._times[node] = recent
        return losses

    @staticmethod
    def _recent(times: Iterable[float], now: float) -> tuple[float, ...]:
        return tuple(time for time in times if now - time < FLAP_WINDOW_S)[-LOSSES_KEPT:]
