"""Where messages go instead of being published: into a transaction that is more than theirs."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .commands import Commands
    from .delivery import PublishToken
    from .encoding import Rows
    from .messages import Outgoing, Routed
    from .wire import Call


class Taker(Protocol):
    """Takes what this thread, or greenlet, publishes."""

    def takes(self, place: object) -> bool:
        """Whether it takes what goes to this place, see `Database.place`."""

    def put(self, outgoing: Outgoing, token: PublishToken, commands: Commands) -> Routed | None:
        """Take a message that `commands` would publish. None where nobody knows yet where it goes."""


_current: ContextVar[Taker | None] = ContextVar("celery_postgres_outbox", default=None)


class Outbox:
    """Gathers what is published to one schema of one database, until it is stored with something else."""

    def __init__(self, place: object) -> None:
        """`place` is that of the connection (see `Database.place`) whose publishes are gathered."""
        self._place = place
        self._commands: Commands | None = None
        self._gathered: list[tuple[Outgoing, PublishToken]] = []
        self._gathers = False
        self.passed = False
        """Whether anything went to another place meanwhile, past us."""

    @contextmanager
    def gathering(self) -> Iterator[None]:
        self._gathers = True
        with opened(self):
            try:
                yield
            finally:
                self._gathers = False

    def __len__(self) -> int:
        return len(self._gathered)

    def takes(self, place: object) -> bool:
        # A greenlet that was spawned meanwhile has a copy of our context, also when we gather no more.
        taken = self._gathers and place == self._place
        self.passed = self.passed or not taken
        return taken

    def put(self, outgoing: Outgoing, token: PublishToken, commands: Commands) -> None:
        self._commands = commands
        self._gathered.append((outgoing, token))

    def publish(self, *first: Call) -> list[Rows]:
        """Store everything in one transaction, behind the calls `first`; returns their answers. Blocks.

        Raises DatabaseUnavailable when the outcome is unknown, and whatever `first` is refused with.
        """
        assert self._commands is not None
        _, answers = self._commands.publish_all([outgoing for outgoing, _ in self._gathered], first)
        for _, token in self._gathered:
            token.settled = True
        return answers


def outbox() -> Taker | None:
    """The one that takes messages at present, if any."""
    return _current.get()


@contextmanager
def opened(taker: Taker) -> Iterator[None]:
    """Within the block it takes messages; who opens another one inside, has that one take them."""
    token = _current.set(taker)
    try:
        yield
    finally:
        _current.reset(token)
