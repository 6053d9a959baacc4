"""What clients saw: one `Operation` per key and call, with true times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Version = tuple[int, int]

OK, UNKNOWN, NOT_APPLIED, PENDING = "ok", "unknown", "not-applied", "pending"

READS = frozenset({"get", "peek", "head", "fetch"})
WRITES = frozenset({"put", "add", "cas", "delete", "incr", "touch", "fill", "give-up"})


@dataclass(slots=True)
class Operation:
    """One call. `returned` is None while it runs.

    `kind`: get, peek (a get that told no version), fetch (a get that may wait, and may be given the `token` to fill the key), fill and
    give-up (with that `token`), head, put, add (if absent), cas, delete, incr, touch, untag (of the tag `argument`, noted for each key); or what the
    simulator itself reports: evict (the primary sequenced the removal of `expected`), return (the primary of a later term has it again), wipe (every listed copy was destroyed; `value` at version
    `expected` came back, if any), set-back (the same, and versions above term `number` may be used again).
    `outcome`: ok, unknown, not-applied, pending. `status` is the write reply's; `value`, `version` are what was read
    or written (`version` None: absent); `number` is incr's step and how many seconds a fetch waits, `expected` cas's version. `restored`: a read said so. `left`: the client
    closed its connection, with its token.
    """

    client: str
    kind: str
    key: bytes
    invoked: float
    argument: bytes | None = None
    number: int = 0
    expected: Version | None = None
    returned: float | None = None
    outcome: str = PENDING
    status: int = -1
    value: bytes | None = None
    version: Version | None = None
    partition: int = -1
    ttl_ms: int = 0
    tags: tuple[str, ...] = ()
    restored: bool = False
    token: str = ""
    left: bool = False

    def __str__(self) -> str:
        until = "…" if self.returned is None else f"{self.returned:.6f}"
        asked = [
            text
            for text in (text_of(self.argument), self.number or "", self.expected or "")
            if text
        ]
        asked += [self.token] if self.token else []
        told = "" if self.outcome != OK else f" status {self.status}" if self.kind in WRITES else ""
        seen = f" {text_of(self.value)} @{self.version}" if self.outcome == OK else ""
        return (
            f"[{self.invoked:.6f} – {until}] {self.client} {self.kind} {text_of(self.key)}"
            f"{' ' + ' '.join(map(str, asked)) if asked else ''} -> {self.outcome}{told}{seen}"
        )


@dataclass(slots=True)
class History:
    """All operations of a run, in the order of their invocation."""

    operations: list[Operation] = field(default_factory=list)

    def by_key(self) -> dict[bytes, list[Operation]]:
        keys: dict[bytes, list[Operation]] = {}
        for operation in self.operations:
            keys.setdefault(operation.key, []).append(operation)
        return keys

    def duplicate_versions(self, set_backs: Sequence[tuple[float, int]] = ()) -> list[str]:
        """Versions are unique per partition: two acknowledged writes with one version are a failure.

        `set_backs`: (when, term): versions above that term are forgotten then.
        """
        seen: dict[tuple[int, Version, int], Operation] = {}
        found = []
        for operation in self.operations:
            if (
                operation.outcome != OK
                or operation.version is None
                or operation.status not in {0, 1}
            ):
                continue
            if operation.kind not in {"put", "add", "cas", "incr", "fill"}:
                continue
            term, invoked = operation.version[0], operation.invoked
            forgotten = sum(term > known and invoked > at for at, known in set_backs)
            other = seen.setdefault((operation.partition, operation.version, forgotten), operation)
            if other is not operation:
                found.append(f"one version for two writes: {other} and {operation}")
        return found


def text_of(raw: bytes | None) -> str:
    if raw is None:
        return ""
    text = raw.decode("utf-8", "backslashreplace")
    return text if len(text) <= 24 else f"{text[:12].rstrip('.')}… ({len(text)} bytes)"
