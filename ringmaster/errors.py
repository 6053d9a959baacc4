"""The one error tree. Every error that crosses a module border is a `RingmasterError`.

Foreign exceptions are mapped once, at the edge where they arise, with `raise ... from`.
"""

from __future__ import annotations


class RingmasterError(Exception):
    """Root of the tree. `str(error)` is a sentence for the person who reads the log or the reply."""


class SettingsError(RingmasterError):
    """A setting is missing or wrong. The process refuses to start."""


class BadRequest(RingmasterError):
    """The caller's mistake: `detail` says which, why, and how to do it right. Nothing has changed.

    `status`: of the reply that said so, if it came as one.
    """

    status: int = 400


class TokenRefused(BadRequest):
    """The cluster wants a token, and none was sent or it does not know the one that was."""


class WireError(RingmasterError):
    """A peer sent bytes that are not the protocol. The connection is closed."""


class PeerError(RingmasterError):
    """A peer answered with an error. `code` is its first word, e.g. `MOVED`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code} {detail}".rstrip())
        self.code = code
        self.detail = detail


class LinkError(RingmasterError):
    """A link to a peer could not carry the request."""


class LinkDown(LinkError):
    """Not connected: the request was never sent, so it is known not to have run."""


class LinkBroken(LinkError):
    """The connection broke after the request was sent: its outcome is unknown."""


class LinkFull(LinkError):
    """Too much is in flight on this link: the request was never sent."""


class DeadlineExceeded(RingmasterError):
    """The deadline passed before a reply came."""


class CoordinatorError(RingmasterError):
    """The coordinator did not do what was asked."""


class CoordinatorUnavailable(CoordinatorError):
    """The coordinator could not be reached or read; a commit's outcome is unknown."""


class ForeignHost(CoordinatorError):
    """The sqlite coordinator is in use by another boot or host; only one may use it."""


class UnknownView(CoordinatorError):
    """The coordinator does not know the view that is held here: it was set back, or the view was forged."""


class DuplicateId(RingmasterError):
    """A live process holds this id already."""


class SnapshotError(RingmasterError):
    """A snapshot could not be written or read."""


class SnapshotDamaged(SnapshotError):
    """Bytes of a snapshot are not what was written."""


class SnapshotUnreadable(SnapshotError):
    """A snapshot that this version cannot read, or that belongs elsewhere; nothing says that it is damaged."""


class Unserved(RingmasterError):
    """No live primary took the request within its deadline; it is known not to have run.

    `retry_after_s`: what a reply said about when to try again; 0: nothing.
    """

    retry_after_s: float = 0.0


class OutcomeUnknown(RingmasterError):
    """A write was sent and its reply never came: it may or may not have taken effect."""


class Shed(Unserved):
    """Refused at once because a bound is reached; it is known not to have run."""


class TooFewCopies(Unserved):
    """Below `--min-in-sync`; the write is known not to have run."""


class TooLarge(RingmasterError):
    """The entry can never fit into a node's budget. Nothing has changed."""
