"""/cluster/hotkeys: the keys that are read most. The nodes count; this asks all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from master.api.advice import ANSWER_S
from master.api.ask_nodes import AskLink, ask_nodes
from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from master.http.target import integer_of_text
from ringmaster.cluster.hot_keys import MOST_HOT_KEYS, decode_hot_keys, hottest
from ringmaster.cluster.view import View
from ringmaster.protocol.resp import encode
from ringmaster.runtime.clock import Clock

_USUAL: Final = 20


class HotKeysApi:
    """`link_of(node)`: the link to it, None if there is none."""

    def __init__(
        self, view: Callable[[], View], link_of: Callable[[str], AskLink | None], clock: Clock
    ) -> None:
        self._view = view
        self._link_of = link_of
        self._clock = clock

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster/hotkeys`: those of the keys for which the token is good."""
        parameters = exchange.parameters("limit")
        limit = integer_of_text(parameters.get("limit", str(_USUAL)), "limit", 1, MOST_HOT_KEYS)
        access = exchange.access
        # Of other keys there may be any number that are read more.
        most = MOST_HOT_KEYS if access.prefixes else limit
        timeout_s = min(ANSWER_S, max(0.001, exchange.deadline() - self._clock.boottime()))
        answers = await ask_nodes(
            self._view(), self._link_of, encode(b"RM.HOTKEYS", most), decode_hot_keys, timeout_s
        )
        body = {
            "hot_keys": hottest(answers, limit, lambda key: access.permits("read", key.encode())),
            "unreachable": sorted(node for node, rows in answers.items() if rows is None),
        }
        return Reply.build(200, JSON_HEADERS, msgspec.json.encode(body))
