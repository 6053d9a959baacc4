"""/cluster/advice: what the hit ratio would be with other sizes and policies. The nodes know; this asks all of them.

So every master answers, and none remembers anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from master.api.ask_nodes import AskLink, ask_nodes
from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from ringmaster.cluster.advice import combine, decode_advice
from ringmaster.cluster.view import View
from ringmaster.protocol.resp import encode
from ringmaster.runtime.clock import Clock

ANSWER_S: Final = 2.0
"""How long nodes are waited for: who does not answer is named, and the others are not held up."""


class AdviceApi:
    """`link_of(node)`: the link to it, None if there is none."""

    def __init__(
        self, view: Callable[[], View], link_of: Callable[[str], AskLink | None], clock: Clock
    ) -> None:
        self._view = view
        self._link_of = link_of
        self._clock = clock

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster/advice`."""
        exchange.parameters()
        view = self._view()
        timeout_s = min(ANSWER_S, max(0.001, exchange.deadline() - self._clock.boottime()))
        answers = await ask_nodes(
            view, self._link_of, encode(b"RM.ADVICE"), decode_advice, timeout_s
        )
        body = msgspec.json.encode(combine(answers, view.eviction))
        return Reply.build(200, JSON_HEADERS, body)
