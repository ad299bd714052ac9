"""One batch of the consuming session: its calls, who reads the answers, who puts back what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .encoding import Rows
    from .wire import Call


class Turn:
    """Everything that goes to the server at once."""

    def __init__(self) -> None:
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
        for reader, rows in zip(self._readers, results, strict=True):
            if reader is not None:
                reader(rows)
        for step in self._done:
            step()

    def undo(self) -> None:
        """Only the first time: a session that is lost while this is sent fails it before the sender hears."""
        steps, self._undo = self._undo, []
        for step in steps:
            step()
