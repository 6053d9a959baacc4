"""What a master takes on of settings that change while it runs: from a value to whom it concerns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from master.fastpath.overload import Overload
from master.http.rate_limits import RateLimits
from ringmaster.access.grant import Grant
from ringmaster.cluster.runtime_settings import SettingsFollower
from ringmaster.config.sources import Started
from ringmaster.net.admission import Admission, allowed_connections
from ringmaster.runtime.logging import set_log_level
from ringmaster.runtime.rate import Rate, parse_rate


class LiveSettings:
    """One master's. `follower` does as the views say; `grants()`: of the tokens it knows."""

    def __init__(
        self,
        started: Mapping[str, Started],
        overload: Overload,
        rates: RateLimits,
        admission: Admission,
        grants: Callable[[], Sequence[Grant]],
    ) -> None:
        self._rates = rates
        self._admission = admission
        self._grants = grants
        apply: dict[str, Callable[[Any], object]] = {
            "shed_after": overload.aim_at,
            "rate_limit_address": self._limit,
            "rate_limit_token": self._limit,
            "max_connections": self._admit,
            "max_connections_per_address": self._admit,
            # The controller takes it from the coordinator, with everything else that a plan is made from.
            "max_fills": _nothing,
            "log_level": set_log_level,
        }
        self.follower = SettingsFollower(started, apply)

    def _limit(self, _rate: str) -> None:
        value = self.follower.value
        self._rates.change(
            address=_rate_of(value("rate_limit_address")),
            token=_rate_of(value("rate_limit_token")),
            grants=self._grants(),
        )

    def _admit(self, _most: int) -> None:
        value = self.follower.value
        most = allowed_connections(int(value("max_connections")))
        self._admission.change(most, int(value("max_connections_per_address")))


def _rate_of(text: object) -> Rate | None:
    return parse_rate(str(text)) if text else None


def _nothing(_value: object) -> None:
    """Somebody else does as it says."""
