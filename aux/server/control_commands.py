"""The `RM.` commands of controllers and masters beside data: status and views."""

from __future__ import annotations

from typing import Final

from aux.node.handlers import Client, Command, Handler
from aux.node.node import Node
from aux.node.status_report import status_of
from ringmaster.cluster.node_status import encode_status
from ringmaster.cluster.view import decode_head, decode_view
from ringmaster.cluster.view_delta import decode_step

_OK: Final = b"+OK\r\n"
_OTHER_CLUSTER: Final = b"-WRONG that view is of another cluster\r\n"


class ControlCommands:
    """Answered whether or not the node holds its lease."""

    def __init__(self, node: Node, cluster: str) -> None:
        self._node = node
        self._cluster = cluster

    def table(self) -> dict[bytes, Handler]:
        """Handlers by command name."""
        return {b"RM.STATUS": self.status, b"RM.VIEW": self.view, b"RM.STEP": self.step}

    def status(self, _client: Client, command: Command) -> bytes:
        """`RM.STATUS [now_ms]`: with the asking master's cluster time."""
        if len(command) > 1:
            self._node.clock.hear(int(command[1]))
        raw = encode_status(status_of(self._node))
        return b"$%d\r\n%b\r\n" % (len(raw), raw)

    def view(self, _client: Client, command: Command) -> bytes:
        """`RM.VIEW json`: as good as one read from the coordinator."""
        head = decode_head(command[1])
        if head.cluster != self._cluster:
            return _OTHER_CLUSTER
        if head.epoch > self._node.roles.epoch:
            self._node.roles.adopt(decode_view(command[1]))
        return _OK

    def step(self, _client: Client, command: Command) -> bytes:
        """`RM.STEP json`: as good as the view to which it leads."""
        step = decode_step(command[1])
        if step.cluster != self._cluster:
            return _OTHER_CLUSTER
        if not self._node.roles.adopt_step(step):
            return b"-BEHIND %d\r\n" % self._node.roles.epoch
        return _OK
