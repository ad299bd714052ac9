"""The batches of the consuming session: their calls, who reads the answers, who puts back what is refused."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from .errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .encoding import Rows
    from .wire import Call

#: Seconds after which a batch under way is no longer waited for, and how many may be under way then.
OVERTAKE_AFTER = 0.0015
_TURNS_AT_MOST = 8


class Turn:
    """Everything that goes to the server at once."""

    def __init__(self) -> None:
        self.sent_at = 0.0
        """By the monotonic clock."""
        self.calls: list[Call] = []
        self._readers: list[Callable[[Rows], None] | None] = []
        self._undo: list[Callable[[], None]] = []
        self._done: list[Callable[[], None]] = []

    def add(self, call: Call, reader: Callable[[Rows], None] | None = None) -> None:
        """`reader(rows)` takes the call's answer; None where it tells nothing."""
        self.calls.append(call)
        self._readers.append(reader)

    def on_failure(self, step: Callable[[], None]) -> None:
        """`step()` puts back what this turn took out, if nothing of it was done."""
        self._undo.append(step)

    def on_success(self, step: Callable[[], None]) -> None:
        """`step()` is called behind the readers."""
        self._done.append(step)

    def take(self, results: Sequence[Rows]) -> None:
        """Let all of them read, also when one meets the loss of the session; then raises DatabaseUnavailable.

        A reader has read before it sends anything, and what the others are to read has been done.
        """
        readers = zip(self._readers, results, strict=True)
        steps: list[Callable[[], None]] = [partial(reader, rows) for reader, rows in readers if reader]
        lost: DatabaseUnavailable | None = None
        for step in (*steps, *self._done):
            try:
                step()
            except DatabaseUnavailable as exc:
                lost = exc
        if lost is not None:
            raise lost

    def undo(self) -> None:
        """Only the first time: a session that is lost while this is sent fails it before the sender hears."""
        steps, self._undo = self._undo, []
        for step in steps:
            step()


class Turns:
    """Those under way. Not safe between threads."""

    def __init__(self) -> None:
        self.confirmed_at = time.monotonic()
        """When the last thing was sent that the server has answered: the session was there then."""
        self._under_way: set[Turn] = set()
        self._last_sent_at = 0.0

    def sent(self, turn: Turn) -> None:
        """It leaves now."""
        turn.sent_at = self._last_sent_at = time.monotonic()
        self._under_way.add(turn)

    def answered(self, turn: Turn) -> None:
        """The server has done it."""
        self.confirmed_at = max(self.confirmed_at, turn.sent_at)

    def ended(self, turn: Turn) -> None:
        """It is not under way any more, whatever became of it."""
        self._under_way.discard(turn)

    def may_overtake(self) -> bool:
        """Whether the next one may leave although the session is busy: not if that is for something else."""
        if not 0 < len(self._under_way) < _TURNS_AT_MOST:
            return False
        return time.monotonic() - self._last_sent_at > OVERTAKE_AFTER
