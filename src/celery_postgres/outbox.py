"""Messages that are gathered instead of published, to be stored in somebody else's transaction."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .commands import Commands
    from .delivery import PublishToken
    from .encoding import Rows
    from .messages import Outgoing
    from .wire import Call

_current: ContextVar[Outbox | None] = ContextVar("celery_postgres_outbox", default=None)


class Outbox:
    """What this thread, or greenlet, publishes to one schema of one database while it is gathering."""

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
        token = _current.set(self)
        self._gathers = True
        try:
            yield
        finally:
            self._gathers = False
            _current.reset(token)

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
        answers = self._commands.publish_all([outgoing for outgoing, _ in self._gathered], first)
        for _, token in self._gathered:
            token.settled = True
        return answers


def outbox() -> Outbox | None:
    """The one that gathers at present, if any."""
    return _current.get()
