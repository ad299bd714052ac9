"""Our errors: as many classes as a caller can act on, each message ending with the remedy.

    Error
    ├── ConfigurationError      a URL, an option or a right is wrong; retrying cannot help
    │   └── SchemaError         the schema is missing, too old or too new for this release
    ├── DatabaseUnavailable     the session is gone or cannot be had; worth a retry
    ├── DatabaseRejected        the server refused the statement; not worth a retry as it is
    └── ChannelError            an AMQP rule was broken; `code` is AMQP's reply code
        ├── NoRoute             312
        ├── AccessRefused       403
        ├── NotFound            404
        ├── ResourceLocked      405
        ├── PreconditionFailed  406
        └── MessageTooLarge     311, the body exceeds `max_message_bytes`

No message holds a password or a body. The driver's error is always chained (`__cause__`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .sqlstates import Reaction, reaction

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_SLOT = "53300"


class Error(Exception):
    """Root of everything that this package raises on its own account."""


class ConfigurationError(Error, ValueError):
    """What was configured cannot work; the message names the setting and the remedy."""


class SchemaError(ConfigurationError):
    """The tables in the database do not fit this release."""


class DatabaseUnavailable(Error, ConnectionError):
    """No session, or it was lost; the outcome of a statement under way is unknown.

    `sqlstate` is PostgreSQL's code where the server gave one.
    """

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate

    @property
    def crowded(self) -> bool:
        """Whether the server, the role or the database takes no further session for now: do not insist."""
        return self.sqlstate == _NO_SLOT


class DatabaseRejected(Error):
    """The server refused a statement, for a reason that a retry does not change unless it is `passing`.

    `sqlstate` is PostgreSQL's five-character code, None where there was none.
    """

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate

    @property
    def reaction(self) -> Reaction:
        """What to do about it, see `sqlstates.TABLE`. Nothing of the transaction was done."""
        return reaction(self.sqlstate)

    @property
    def passing(self) -> bool:
        """Whether it may be gone in a moment: a lock, a deadlock, a full disk."""
        return self.reaction in (Reaction.RETRY, Reaction.BACK_OFF)


class ChannelError(Error):
    """An operation that AMQP forbids. The channel stays usable, unlike AMQP's."""

    code = 541

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} ({self.code})")


class NoRoute(ChannelError):
    """A mandatory message found no queue; nothing was stored."""

    code = 312


class AccessRefused(ChannelError):
    """A name that is reserved, or a queue that takes no further consumer."""

    code = 403


class NotFound(ChannelError):
    """The exchange or queue does not exist."""

    code = 404


class ResourceLocked(ChannelError):
    """The queue is exclusive to another connection."""

    code = 405


class PreconditionFailed(ChannelError):
    """A declaration differs from the existing one, or a delete condition does not hold."""

    code = 406


class MessageTooLarge(ChannelError):
    """The body is larger than `max_message_bytes`; nothing was stored."""

    code = 311


@contextmanager
def passing_is_unavailable() -> Iterator[None]:
    """What is in the way for a moment, a lock say, may be tried again like what was lost."""
    try:
        yield
    except DatabaseRejected as exc:
        if exc.passing:
            raise DatabaseUnavailable(str(exc), exc.sqlstate) from exc
        raise
