"""/cluster/evictions: whose entries were evicted for whose writes. The nodes count; this asks all of them."""

from __future__ import annotations

from typing import Final

import msgspec

from master.api.ask_nodes import ANSWER_S, NodesApi
from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from master.http.target import integer_of_text
from ringmaster.cluster.evictions import MOST_EVICTIONS, decode_evictions, most_evicted
from ringmaster.config.quantities import rfc3339
from ringmaster.protocol.resp import encode

_USUAL: Final = 20


class EvictionsApi(NodesApi):
    """What nodes count."""

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster/evictions`: of prefixes for which the token is good."""
        parameters = exchange.parameters("limit")
        limit = integer_of_text(parameters.get("limit", str(_USUAL)), "limit", 1, MOST_EVICTIONS)
        access = exchange.access
        # A pair that is rare on each node may not be so on all; and others may be hidden.
        answers = await self._ask_all(
            exchange, encode(b"RM.EVICTIONS", MOST_EVICTIONS), decode_evictions, ANSWER_S
        )
        known = {node: answer for node, answer in sorted(answers.items()) if answer is not None}
        body = {
            "evictions": most_evicted(
                known, limit, lambda prefix: access.permits("read", prefix.encode())
            ),
            "nodes": [
                {"id": node, "since": rfc3339(answer.since_ms), "evictions": answer.evictions}
                for node, answer in known.items()
            ],
            "unreachable": sorted(answers.keys() - known.keys()),
        }
        return Reply.build(200, JSON_HEADERS, msgspec.json.encode(body))
