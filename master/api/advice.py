"""/cluster/advice: what the hit ratio would be with other sizes and policies. The nodes know; this asks all of them.

So every master answers, and none remembers anything.
"""

from __future__ import annotations

import msgspec

from master.api.ask_nodes import ANSWER_S, NodesApi
from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from ringmaster.cluster.advice import combine, decode_advice
from ringmaster.protocol.resp import encode


class AdviceApi(NodesApi):
    """What nodes advise."""

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster/advice`."""
        exchange.parameters()
        answers = await self._ask_all(exchange, encode(b"RM.ADVICE"), decode_advice, ANSWER_S)
        body = msgspec.json.encode(combine(answers, self._view().eviction))
        return Reply.build(200, JSON_HEADERS, body)
