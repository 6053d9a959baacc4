"""The `RM.` commands of controllers and masters beside data: status and views."""

from __future__ import annotations

from typing import Final

from aux.node.advice_report import advice_of
from aux.node.explain_report import evictions_of, memory_of
from aux.node.handlers import Client, Command, Handler
from aux.node.hot_key_report import hot_keys_of
from aux.node.node import Node
from aux.node.status_report import status_of
from ringmaster.cluster.advice import encode_advice
from ringmaster.cluster.evictions import MOST_EVICTIONS, encode_evictions
from ringmaster.cluster.explanation import encode_memory
from ringmaster.cluster.hot_keys import MOST_HOT_KEYS, encode_hot_keys
from ringmaster.cluster.node_status import encode_status
from ringmaster.cluster.runtime_settings import encode_settings_report
from ringmaster.cluster.view import decode_head
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
        return {
            b"RM.STATUS": self.status,
            b"RM.VIEW": self.view,
            b"RM.STEP": self.step,
            b"RM.ADVICE": self.advice,
            b"RM.HOTKEYS": self.hot_keys,
            b"RM.EXPLAIN": self.explain,
            b"RM.EVICTIONS": self.evictions,
            b"RM.SETTINGS": self.settings,
        }

    def status(self, _client: Client, command: Command) -> bytes:
        """`RM.STATUS [now_ms]`: with the asking master's cluster time."""
        if len(command) > 1:
            self._node.clock.hear(int(command[1]))
        raw = encode_status(status_of(self._node))
        return b"$%d\r\n%b\r\n" % (len(raw), raw)

    def advice(self, _client: Client, _command: Command) -> bytes:
        """`RM.ADVICE`: what this node's cache would hit with other sizes and policies."""
        raw = encode_advice(advice_of(self._node))
        return b"$%d\r\n%b\r\n" % (len(raw), raw)

    def hot_keys(self, _client: Client, command: Command) -> bytes:
        """`RM.HOTKEYS most`: the keys that are read most."""
        most = min(MOST_HOT_KEYS, max(0, int(command[1])))
        raw = encode_hot_keys(hot_keys_of(self._node, most))
        return b"$%d\r\n%b\r\n" % (len(raw), raw)

    def explain(self, _client: Client, command: Command) -> bytes:
        """`RM.EXPLAIN key`: what this node remembers of a key that is not there."""
        raw = encode_memory(memory_of(self._node, command[1]))
        return b"$%d\r\n%b\r\n" % (len(raw), raw)

    def evictions(self, _client: Client, command: Command) -> bytes:
        """`RM.EVICTIONS most`: whose entries were evicted for whose writes."""
        most = min(MOST_EVICTIONS, max(0, int(command[1])))
        raw = encode_evictions(evictions_of(self._node, most))
        return b"$%d\r\n%b\r\n" % (len(raw), raw)

    def settings(self, _client: Client, _command: Command) -> bytes:
        """`RM.SETTINGS`: what this node was started with, and which changes it follows."""
        raw = encode_settings_report(self._node.settings_report())
        return b"$%d\r\n%b\r\n" % (len(raw), raw)

    def view(self, _client: Client, command: Command) -> bytes:
        """`RM.VIEW json`: the coordinator has a new view, which is read there."""
        head = decode_head(command[1])
        if head.cluster != self._cluster:
            return _OTHER_CLUSTER
        if head.epoch > self._node.roles.epoch:
            self._node.heard_of(head.epoch)
        return _OK

    def step(self, _client: Client, command: Command) -> bytes:
        """`RM.STEP json`: as good as the view to which it leads, if that is the next; the coordinator must soon show it."""
        step, roles = decode_step(command[1]), self._node.roles
        if step.cluster != self._cluster:
            return _OTHER_CLUSTER
        if step.epoch > max(step.after + 1, roles.epoch) or not roles.adopt_step(step):
            return b"-BEHIND %d\r\n" % roles.epoch
        self._node.heard_of(step.epoch)
        return _OK
