"""A task that runs longer than the broker waits for an acknowledgement."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

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

#: The limit that stands for the default of half an hour or an hour.
_VISIBILITY_S = 1

#: How long the task runs, unless it is started a second time before.
_RUNS_S = 5.0
_RUNS_QUICK_S = 3.0
_RUNS_QUICK_WITHOUT_LIMIT_S = 1.0

# kombu looks for what is overdue every 100 s only, which is little beside an hour, and much beside a second.
_SHORT: dict[str, dict[str, Any]] = {
    "redis": {
        "visibility_timeout": _VISIBILITY_S,
        "unacked_restore_interval": 0.5,
        "unacked_restore_throttle": 1,
    },
    "pgmq": {"visibility_timeout": _VISIBILITY_S},
}

_WITHOUT_LIMIT = {
    "postgresql": "a task's time has no limit, since what counts is whether its worker lives",
    "amqp": f"longer than {redelivery.CONSUMER_TIMEOUT} was not tried",
    "sqla": "the transport gives nothing back while its worker lives",
}


def _observe(arena: Arena, request: Request) -> Behaviour:
    short = _SHORT.get(arena.place.kind)
    given = arena.address.settings["broker_transport_options"]
    # The only one that takes tasks: in pgmq, who takes one says when it is given to somebody else.
    if short:
        cast.dismiss(arena)
        worker = cast.start(arena, settings={**cast.LATE, "broker_transport_options": {**given, **short}})
        arena.wait_ready(worker)
    else:
        worker = cast.standby(arena)
    held = Held(arena)
    (id_,) = held.send(1)
    arena.wait_for(lambda: bool(held.started(id_)), "the task did not start", [worker])
    begun = time.monotonic()
    runs_s = _runs_s(request, limited=bool(short))
    runs = waiting.until(lambda: len(arena.notes.of(Event.STARTED, id_)), lambda runs: runs > 1, runs_s)
    held.release()
    arena.wait_for(
        lambda: len(arena.notes.of(Event.SUCCEEDED, id_)) >= runs, "the task did not end", [worker]
    )
    if short:
        worker.kill()
    found = tally(arena, held.ids, begun)
    return Behaviour(
        _said(arena, runs, runs_s),
        None if arena.place.kind == "amqp" and runs == 1 else runs == 1,
        None,
        found.lost,
        found.duplicated,
        found.timeline,
    )


def _runs_s(request: Request, *, limited: bool) -> float:
    if request.quick:
        return _RUNS_QUICK_S if limited else _RUNS_QUICK_WITHOUT_LIMIT_S
    return _RUNS_S


def _said(arena: Arena, runs: int, runs_s: float) -> str:
    kind = arena.place.kind
    if kind in _SHORT:
        otherwise = f"otherwise {redelivery.visibility(arena)}"
        limit = f"visibility_timeout was shortened to {_VISIBILITY_S} s for this; {otherwise}"
    else:
        limit = _WITHOUT_LIMIT.get(kind, "a limit of the broker is not known")
    if runs > 1:
        return f"it was started a second time while it ran, having run for longer than the limit ({limit})"
    return f"it ran once, {runs_s:g} s long ({limit})"


LONG = Trial(
    "long_task",
    "A long task",
    "A task that is acknowledged late ran for some seconds; a limit that a client of the broker may set was "
    f"{_VISIBILITY_S} s, since nobody can wait for the default.",
    7.0,
    _observe,
)
