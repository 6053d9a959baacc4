"""When nodes were lost lately, for the flap guard: kept in the coordinator for the next controller.

Times in memory are this machine's boottime in seconds, in the record they are cluster time in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from master.control.planning.node_verdicts import FLAP_WINDOW_S
from ringmaster.runtime.decoding import json_decoder

LOSSES_KEY: Final = "losses"
LOSSES_KEPT: Final = 16
"""Per node; more would not change for how long it is held off."""

_decode = json_decoder(dict[str, list[float]])


class LossHistory:
    """Times of losses by node id. Drops those older than the flap window."""

    def __init__(self) -> None:
        self._times: dict[str, tuple[float, ...]] = {}

    def times(self) -> Mapping[str, tuple[float, ...]]:
        """Boottimes, ascending."""
        return dict(self._times)

    def with_lost(self, nodes: Iterable[str], now: float) -> LossHistory:
        """The history with `nodes` lost at `now`."""
        after = LossHistory()
        after._times = {
            node: times for node in self._times if (times := self._recent(self._times[node], now))
        }
        for node in nodes:
            after._times[node] = (*after._times.get(node, ()), now)[-LOSSES_KEPT:]
        return after

    def encode(self, now: float, cluster_s: float) -> bytes:
        """The record's value. `now` and `cluster_s`: both clocks, read together."""
        return msgspec.json.encode(
            {
                node: [round(cluster_s - (now - time), 3) for time in times]
                for node, times in self._times.items()
            }
        )

    @classmethod
    def decode(cls, raw: bytes, now: float, cluster_s: float) -> LossHistory:
        """The inverse. An unreadable record is an empty history; times in the future become `now`."""
        losses = cls()
        try:
            found = _decode(raw)
        except msgspec.DecodeError:
            return losses
        for node, recorded in found.items():
            times = sorted(now - max(0.0, cluster_s - time) for time in recorded)
            if recent := cls._recent(times, now):
                losses._times[node] = recent
        return losses

    @staticmethod
    def _recent(times: Iterable[float], now: float) -> tuple[float, ...]:
        return tuple(time for time in times if now - time < FLAP_WINDOW_S)[-LOSSES_KEPT:]
