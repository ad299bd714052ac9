"""kill -9 of a process of the pool, in the middle of a task."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from celery_postgres.compare import cast, waiting
from celery_postgres.compare.held import Held
from celery_postgres.compare.notes import Event
from celery_postgres.compare.report.model import Behaviour
from celery_postgres.compare.tally import tally
from celery_postgres.compare.trial import Trial

from . import redelivery

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.request import Request

#: Celery hears of such an end at once, or finds it when it looks, every five seconds.
_LOOKS_EVERY_S = 5.0


def _observe(arena: Arena, request: Request) -> Behaviour:
    if request.pool != "prefork":
        return Behaviour(f"not tried: the pool {request.pool} has no processes of its own", None)
    standby = cast.standby(arena)
    held = Held(arena)
    (id_,) = held.send(1)
    arena.wait_for(lambda: bool(held.started(id_)), "the task did not start", [standby])
    (note,) = arena.notes.of(Event.STARTED, id_)
    fault = time.monotonic()
    os.kill(note.pid, signal.SIGKILL)
    limit = _LOOKS_EVERY_S + waiting.patience_s(request)
    again = waiting.until(lambda: held.started(id_, since_s=fault), bool, limit)
    held.release()
    if again:
        arena.wait_for(lambda: bool(held.ended(id_)), "the task did not end", [standby])
    found = tally(arena, held.ids, fault)
    seconds = round(again[id_] - fault, 3) if again else None
    notices = f"Celery notices it at once or within {_LOOKS_EVERY_S:g} s"
    return Behaviour(
        f"it ran again {seconds:.2f} s after the kill ({notices})"
        if again
        else f"it did not run again within {limit:g} s: {redelivery.rule(arena)}",
        bool(again) and found.duplicated == 0,
        seconds,
        found.lost,
        found.duplicated,
        found.timeline,
    )


CHILD = Trial(
    "child_killed",
    "A process of the pool is killed",
    "The process that ran a task was ended by kill -9, as when memory runs out; its worker lived on. "
    "Tasks are acknowledged late, with task_reject_on_worker_lost.",
    3.0,
    _observe,
)
