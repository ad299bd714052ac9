"""What is being done, and how long the rest will take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Item:
    """One thing that will be done with one contender."""

    stage: str
    """For people: round 2 of 5."""
    kind: str
    """What takes equally long with the same contender."""
    contender: str
    seconds: float = field(compare=False)
    """As far as is known before."""


@dataclass(frozen=True)
class Step:
    """A moment of a comparison."""

    item: Item
    doing: str
    """For people: draining no-op tasks."""
    left_s: float
    """Until the end of all, estimated."""


class Agenda:
    """All items that are still to come; estimates become better as items are done."""

    def __init__(self, tell: Callable[[Step], None]) -> None:
        self._tell = tell
        self._open: list[Item] = []
        self._current: Item | None = None
        self._began = 0.0
        self._estimated_s = self._spent_s = 0.0
        self._known: set[tuple[str, str]] = set()

    def expect(self, items: list[Item]) -> None:
        """These will be done, too."""
        self._open += items

    def begin(self, item: Item) -> None:
        """It is its turn."""
        self._open.remove(item)
        self._current, self._began = item, time.monotonic()

    def doing(self, what: str) -> None:
        """Say it of the current item."""
        if self._current is not None:
            self._tell(Step(self._current, what, self.left_s()))

    def done(self) -> None:
        """The current item is; others of its kind will take as long."""
        item = self._current
        if item is None:
            return
        took_s = time.monotonic() - self._began
        same = (item.kind, item.contender)
        if same not in self._known:
            self._estimated_s += item.seconds
            self._spent_s += took_s
            self._known.add(same)
        self._open = [
            replace(one, seconds=took_s) if (one.kind, one.contender) == same else one for one in self._open
        ]
        self._current = None

    def revise(self, kind: str, seconds: float) -> None:
        """All items of this kind will take so long."""
        self._open = [replace(one, seconds=seconds) if one.kind == kind else one for one in self._open]

    def leave_out(self, items: list[Item]) -> None:
        """They will not be done."""
        self._open = [one for one in self._open if one not in items]

    def leave_out_contender(self, name: str) -> None:
        """Nothing more will be done with it."""
        self._open = [one for one in self._open if one.contender != name]

    def left_s(self) -> float:
        """Seconds until the end of all."""
        current = self._current
        rest_s = max(0.0, self._seconds(current) - (time.monotonic() - self._began)) if current else 0.0
        return rest_s + sum(map(self._seconds, self._open))

    def _seconds(self, item: Item) -> float:
        """What was never done takes as much more or less than estimated as all that was."""
        if (item.kind, item.contender) in self._known or not self._estimated_s:
            return item.seconds
        return item.seconds * self._spent_s / self._estimated_s
