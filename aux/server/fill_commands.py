"""The `RM.` commands of masters on their events connections: fills (R12)."""

from __future__ import annotations

from typing import Final

from aux.node.handlers import Client, Command, Handler
from aux.node.node import Node
from aux.server.copy_commands import NO_LEASE, NO_SESSION
from aux.server.data_commands import DataCommands, plain_reply
from aux.storage.write_rules import fill_lost
from ringmaster.protocol.write_options import Status

_OK: Final = b"+OK\r\n"
_UNDECIDED: Final = b"-AGAIN a write of the key is under way\r\n"
_GIVEN_UP: Final = b"*4\r\n:%d\r\n:0\r\n:0\r\n:0\r\n" % int(Status.REPLACED)


class FillCommands:
    """Fills of `node`."""

    def __init__(self, node: Node, data: DataCommands) -> None:
        self._served = node.roles.served
        self._store = node.store
        self._fills = node.fills
        self._grants = node.grants
        self._sessions = node.sessions
        self._data = data
        self._clock = node.clock

    def leased(self) -> dict[bytes, Handler]:
        """Handlers by command name, of commands that need the lease."""
        return {b"RM.FILL": self.fill}

    def always(self) -> dict[bytes, Handler]:
        """Handlers by command name, of commands that do not."""
        return {
            b"RM.GIVEUP": self.give_up,
            b"RM.LEAVE": self.leave,
            b"RM.STOP": self.stop_waiting,
        }

    def fill(self, client: Client, command: Command) -> bytes:
        """`RM.FILL pt key callers`: [entry or nil, fill token, whether events will follow]; see `PartitionFills.ask`."""
        session = self._sessions.of(client)
        if session is None:
            return NO_SESSION
        _, token, key, callers = command
        primary = self._served.get(token)
        if primary is None:
            return self._data.moved(token)
        asked = self._fills.of(primary).ask(key, session, int(callers))
        if asked is None:
            return _UNDECIDED
        entry, fill_token, waits = asked
        # Neither a hit nor a miss: the masters have read the key before they ask.
        if entry is None:
            found = b"$-1"
        else:
            self._store.policy.touch(primary.data, key)
            self._grants.read(primary, key, entry, 1)
            found = b"$%d\r\n%b" % (len(entry), entry)
        return b"*3\r\n%b\r\n$%d\r\n%b\r\n:%d\r\n" % (
            found, len(fill_token), fill_token.encode(), waits,
        )  # fmt: skip

    def give_up(self, client: Client, command: Command) -> bytes | None:
        """`RM.GIVEUP pt key token`: a write reply, `FILL_LOST` if the token was not live, for which the lease is needed."""
        _, token, key, fill_token = command
        primary = self._served.get(token)
        if primary is None:
            return self._data.moved(token)
        if self._fills.of(primary).give_up(key, fill_token.decode()):
            return _GIVEN_UP
        if not self._clock.lease_held():
            return NO_LEASE  # whoever has the partition now knows what is there
        return self._data.write(client, primary, key, fill_lost, plain_reply)

    def leave(self, _client: Client, command: Command) -> bytes:
        """`RM.LEAVE pt key token`: the client that holds the token has closed its connection."""
        _, token, key, fill_token = command
        primary = self._served.get(token)
        if primary is not None:
            self._fills.of(primary).leave(key, fill_token.decode())
        return _OK

    def stop_waiting(self, client: Client, command: Command) -> bytes:
        """`RM.STOP pt key`: nobody waits for the key at this master any more."""
        session = self._sessions.of(client)
        primary = self._served.get(command[1])
        if session is not None and primary is not None:
            self._fills.of(primary).stop_waiting(command[2], session)
        return _OK
