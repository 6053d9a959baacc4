"""/cluster/hotkeys: the keys that are read most. The nodes count; this asks all of them."""

from __future__ import annotations

from typing import Final

import msgspec

from master.api.ask_nodes import ANSWER_S, NodesApi
from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from master.http.target import integer_of_text
from ringmaster.cluster.hot_keys import MOST_HOT_KEYS, decode_hot_keys, hottest
from ringmaster.protocol.resp import encode

_USUAL: Final = 20


class HotKeysApi(NodesApi):
    """What nodes count."""

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster/hotkeys`: those of the keys for which the token is good."""
        parameters = exchange.parameters("limit")
        limit = integer_of_text(parameters.get("limit", str(_USUAL)), "limit", 1, MOST_HOT_KEYS)
        access = exchange.access
        # Of other keys there may be any number that are read more.
        most = MOST_HOT_KEYS if access.prefixes else limit
        answers = await self._ask_all(
            exchange, encode(b"RM.HOTKEYS", most), decode_hot_keys, ANSWER_S
        )
        body = {
            "hot_keys": hottest(answers, limit, lambda key: access.permits("read", key.encode())),
            "unreachable": sorted(node for node, rows in answers.items() if rows is None),
        }
        return Reply.build(200, JSON_HEADERS, msgspec.json.encode(body))
