"""A small part of a round, once before all rounds: everything works, and how long it takes about."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from celery_postgres.compare.notes import Event

from .drain import each_s, first_starts, wait_started
from .worker import start

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena

    from .client import Client, Published
    from .workload import Workload, Workloads

_PROBE_TASKS = 150
_OTHER_TASKS = 30
# An application's task may take a minute or a millisecond: more of them follow while there is time.
_LONG_ENOUGH_S = 0.3
_MOST = 300
_LIMIT_S = 10.0


@dataclass(frozen=True)
class Estimate:
    """Seconds for one task."""

    publish_s: float
    drain_s: dict[str, float]
    """By the key of the workload: from one start to the next."""
    duration_s: float
    """From the start of one of the main workload to its end."""


class Rehearsal:
    """Its processes start with it, so that those of all contenders can do so at once; measured is later."""

    def __init__(self, arena: Arena, client: Client, workloads: Workloads) -> None:
        self._arena = arena
        self._client = client
        self._workloads = workloads
        self._own = arena.request.application is not None
        self._worker = start(arena, ends=self._own)

    def run(self) -> Estimate:
        """Send some of each, and let the worker run them. Raises Failure."""
        arena, main = self._arena, self._workloads.main
        self._client.wait_ready()
        arena.wait_ready(self._worker)
        count = _PROBE_TASKS
        if self._own:
            count = max(len(main.calls), arena.request.concurrency + 1)
        published = self._client.publish(main, count, _LIMIT_S)
        drain_s = {main.key: self._each_s(published, known=0)}
        duration_s = self._duration_s(published.ids) if self._own else 0.0
        for other in self._workloads.sent[1:]:
            drain_s[other.key] = self._another(other, _OTHER_TASKS)
        while self._own and count < _MOST and count * drain_s[main.key] < _LONG_ENOUGH_S:
            count = min(_MOST, 4 * count)
            drain_s[main.key] = self._another(main, count)
        self._worker.kill()
        return Estimate(published.took_s / len(published.ids), drain_s, duration_s)

    def _another(self, workload: Workload, count: int) -> float:
        known = self._arena.notes.count()
        return self._each_s(self._client.publish(workload, count, _LIMIT_S), known)

    def _each_s(self, published: Published, known: int) -> float:
        wait_started(self._arena, published.ids, self._worker, known)
        return each_s(first_starts(self._arena), published.ids)

    def _duration_s(self, ids: list[str]) -> float:
        arena = self._arena

        def ended() -> bool:
            arena.raise_failed_tasks()
            return len({note.key for note in arena.notes.of(Event.SUCCEEDED, *ids)}) == len(ids)

        arena.wait_for(ended, "the tasks of the rehearsal did not end", [self._worker])
        starts = first_starts(arena)
        ends = arena.notes.of(Event.SUCCEEDED, *ids)
        return median(note.at_ns - starts[note.key] for note in ends) / 1e9
