"""How many connections a worker keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.compare import cast, processes, waiting
from celery_postgres.compare.notes import Event
from celery_postgres.compare.report.model import Ability
from celery_postgres.compare.trial import Trial

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.request import Request

#: For each process of the pool, so that each has stored a result.
_TASKS = 8
#: So long the number has to stay: some are opened with the first occasion only.
_STAYS_S = 0.8


def _observe(arena: Arena, request: Request) -> Ability:
    cast.dismiss(arena)  # one that has answered commands has kept the connections that it took for that
    worker = cast.standby(arena)
    ids = [arena.send("echo", number).id for number in range(_TASKS * cast.slots(request))]
    arena.wait_for(
        lambda: len(arena.notes.of(Event.SUCCEEDED, *ids)) == len(ids), "the tasks did not end", [worker]
    )
    if not processes.visible():
        return Ability(None, "this system has no /proc to count them in")
    count = waiting.settled(lambda: processes.tree_connections(worker.pid), _STAYS_S)
    if not count:
        return Ability(None, "not counted: the server is not reached over TCP")
    return Ability(None, f"{count} (concurrency {cast.slots(request)})")


CONNECTIONS = Trial(
    "connections",
    "Connections per worker",
    "The TCP connections of a worker with all its processes were counted, to broker and result backend, "
    "after some tasks with results.",
    1.0,
    _observe,
)
