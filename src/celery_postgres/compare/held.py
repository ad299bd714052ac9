"""Tasks that go on until they are let go, and who holds which of them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from . import cast, waiting
from .notes import Event, key

if TYPE_CHECKING:
    from pathlib import Path

    from celery_postgres.verify.worker import Worker

    from .arena import Arena

#: So long nothing new may happen until it is believed that nothing will.
_QUIET_S = 0.3


class Held:
    """Of one trial. Counts by the notes of the workers, never by what a broker says."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.ids: list[str] = []
        """All that were sent."""

    def send(self, count: int) -> list[str]:
        """Publish so many tasks; their ids."""
        sent = [str(uuid.uuid4()) for _ in range(count)]
        for id_ in sent:
            self._arena.send("hold", str(self._path(id_)), task_id=id_)
        self.ids += sent
        return sent

    def release(self, *ids: str) -> None:
        """Let these come to an end; all, if none are named."""
        for id_ in ids or self.ids:
            self._path(id_).touch()

    def started(self, *ids: str, since_s: float = 0.0, worker: Worker | None = None) -> dict[str, float]:
        """Those of these that have started since then, with the last time that each did."""
        number = None if worker is None else cast.number_of(self._arena, worker)
        return self._times(Event.STARTED, ids, since_s, number)

    def ended(self, *ids: str) -> dict[str, float]:
        """Those of these that have come to their end, with the last time that each did."""
        return self._times(Event.SUCCEEDED, ids, 0.0, None)

    def share(self, victim: Worker, standby: Worker, beyond: int) -> tuple[list[str], list[str]]:
        """Let the victim hold as many tasks as it runs, and some beyond; the ids: running, and not started.

        The one that stands by gets its part of them, too, since nobody can say who takes what. It has
        nothing in its hands when this returns.
        """
        running = cast.slots(self._arena.request)
        ids = self.send(2 * running + beyond)
        self._arena.wait_for(
            lambda: len(self.started(*ids, worker=victim)) == running and self._arena.waiting() == 0,
            "the workers did not take the tasks",
            [victim],
        )
        waiting.settled(lambda: len(self.started(*ids)), _QUIET_S)
        theirs = list(self.started(*ids, worker=standby))
        self.release(*theirs)
        self._arena.wait_for(
            lambda: len(self.ended(*theirs)) == len(theirs), "the tasks did not end", [standby]
        )
        begun = list(self.started(*ids, worker=victim))
        return begun, [id_ for id_ in ids if id_ not in begun and id_ not in theirs]

    def _times(
        self, event: Event, ids: tuple[str, ...], since_s: float, number: int | None
    ) -> dict[str, float]:
        names = {key(id_): id_ for id_ in ids or self.ids}
        return {
            names[note.key]: note.at_ns / 1e9
            for note in self._arena.notes.of(event)
            if note.key in names and note.at_ns / 1e9 >= since_s and number in (None, note.worker)
        }

    def _path(self, id_: str) -> Path:
        return self._arena.folder / f"release-{id_}"
