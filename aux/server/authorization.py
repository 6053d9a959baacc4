"""Who may say what: the cluster's secret, the user who may only read, and strangers for whom there is no place."""

from __future__ import annotations

import hmac
from typing import Final

import structlog

from aux.node.handlers import Command, Handler
from ringmaster.protocol.handshake import READER, reader_password

MAX_UNKNOWN_BYTES: Final = 16 * 1024
MAX_UNKNOWN_ARGS: Final = 4096
"""What is kept of a command of somebody who has still to say the secret."""

MAX_OUTSIDE: Final = 64
OUTSIDE_S: Final = 1.0
"""So many connections beyond the cap may say the cluster's secret within this time."""

NO_PLACE: Final = b"-ERR max number of clients reached\r\n"
"""As Redis has it."""

READS: Final = (b"GET", b"MGET", b"EXISTS", b"TTL", b"PTTL")
"""What a reader may ask of a node that holds its lease."""

WRONG: Final = b"-WRONGPASS wrong user or password\r\n"
MISSING: Final = b"-NOAUTH Authentication required.\r\n"
READ_ONLY: Final = b"-NOPERM this user may only read\r\n"

_INTERNAL: Final = b"RM."
"""What the names of the masters' and nodes' own commands begin with."""

_REFUSALS_PER_LINE: Final = 1000
"""The first of so many refused commands is logged."""

_log = structlog.get_logger(__name__)


class Rights:
    """The commands that a user may give, by name: those that need a lease, and the others."""

    __slots__ = ("always", "leased")

    def __init__(self, leased: dict[bytes, Handler], always: dict[bytes, Handler]) -> None:
        self.leased = leased
        self.always = always


class Authorization:
    """What the connections of one server may ask for. `every`: every command; `reads`: those of the user `reader`.

    `secret`: what AUTH must say before any command; the user `reader` has a password of its own. If empty, nothing is
    asked. `refused`: commands of masters and nodes that came without it. `outside`: connections beyond the cap, which may
    still say the secret. `turned_away`: those that did not.
    """

    def __init__(self, secret: str, every: Rights, reads: Rights) -> None:
        self.secret = secret.encode()
        self._every = every
        self.refused = 0
        self.outside: set[object] = set()
        self.turned_away = 0
        self._reads = reads
        self._reader_password = reader_password(secret).encode()

    def log_in(self, command: Command) -> Rights | None:
        """What becomes of `command`, an AUTH with arguments; None if user or password is wrong."""
        password = command[-1]
        if len(command) > 2 and command[1] == READER.encode():
            return self._reads if hmac.compare_digest(password, self._reader_password) else None
        return self._every if hmac.compare_digest(password, self.secret) else None

    def refuse(self, name: bytes) -> None:
        """The command with this name, in capitals, came from somebody who may not give it: nothing is done."""
        if not name.startswith(_INTERNAL):
            return
        self.refused += 1
        if self.refused == 1 or self.refused % _REFUSALS_PER_LINE == 0:
            _log.warning(
                "refused a command that takes the cluster's secret",
                command=name.decode(errors="replace"),
                refused=self.refused,
            )

    def wait_outside(self, connection: object) -> bool:
        """There is no place for it, unless it says the secret first: strangers must not shut out masters and nodes.

        False: it is to be turned away.
        """
        if not self.secret or len(self.outside) >= MAX_OUTSIDE:
            self.turned_away += 1
            return False
        self.outside.add(connection)
        return True

    def first_said(self, connection: object, name: bytes, command: Command) -> bool:
        """A connection that waited outside, if it did, gives `command`. False: it is to be turned away."""
        if connection not in self.outside:
            return True
        self.outside.discard(connection)
        if name == b"AUTH" and hmac.compare_digest(command[-1], self.secret):
            return True
        self.turned_away += 1
        return False

    def give_up(self, connection: object) -> bool:
        """Its time is over. Whether it waited still, and is to be turned away."""
        if connection not in self.outside:
            return False
        self.outside.discard(connection)
        self.turned_away += 1
        return True

    def left(self, connection: object) -> None:
        """It has ended."""
        self.outside.discard(connection)
