"""Tasks that are due in an hour, and the end of the worker that has seen them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery_postgres.compare import cast, waiting, whereabouts
from celery_postgres.compare.notes import Event
from celery_postgres.compare.report.model import Behaviour
from celery_postgres.compare.trial import Trial

from . import redelivery

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.request import Request

_AHEAD_S = 3600
#: So many more than the worker takes at once.
_MORE = 3
#: So long it takes at most until the broker knows that a task has ended.
_ACKNOWLEDGES_S = 0.5
#: And until it has noticed by itself that a worker is gone, if it does.
_COMES_BACK_S = 0.5


def _observe(arena: Arena, request: Request) -> Behaviour:
    worker = cast.standby(arena)
    ids = [arena.send("noop", countdown=_AHEAD_S).id for _ in range(cast.slots(request) + _MORE)]
    behind = _plain(arena, request)
    taken = len(whereabouts.received(worker, ids))
    before = arena.waiting()
    cast.dismiss(arena)
    limit = waiting.patience_s(request)
    back = _back(arena, ids, before, taken, limit)
    kept = arena.place.keeps(ids)
    lost = max(0, taken - back) if kept is None else len(ids) - len(kept)
    cast.leave_empty(arena)
    return Behaviour(
        f"{_where(arena, taken, len(ids))}; {behind}; {_after_the_kill(arena, lost, taken - back, limit)}",
        False if lost or back < taken else None if taken else True,
        lost=lost,
    )


def _back(arena: Arena, ids: list[str], before: int, taken: int, limit_s: float) -> int:
    """How many of those that the worker had taken are there for another, or with another."""
    back = waiting.until(
        lambda: arena.waiting() - before, lambda back: back >= taken, _COMES_BACK_S if taken else 0.0
    )
    if back >= taken:
        return taken
    other = cast.standby(arena)  # some brokers leave it to the next worker to notice
    return waiting.until(lambda: len(whereabouts.received(other, ids)), lambda back: back >= taken, limit_s)


def _plain(arena: Arena, request: Request) -> str:
    """Whether there is room for another task behind those that wait for their time."""
    limit = waiting.patience_s(request) + 1.0  # Celery widens its window once a second
    id_ = arena.send("noop").id
    begin = time.monotonic()
    if waiting.until(lambda: arena.notes.of(Event.SUCCEEDED, id_), bool, limit):
        took = time.monotonic() - begin
        time.sleep(_ACKNOWLEDGES_S)
        return f"a plain task sent behind them ran after {took:.2f} s"
    return f"a plain task sent behind them did not run within {limit:g} s"


def _where(arena: Arena, taken: int, count: int) -> str:
    if not taken:
        return f"all {count} stayed with the broker"
    said = f"{taken} of {count} went into the memory of the worker, more than it prefetches"
    if arena.place.kind == "amqp":
        said += f", and stay unacknowledged (for longer than {redelivery.CONSUMER_TIMEOUT}: not tried)"
    return said


def _after_the_kill(arena: Arena, lost: int, hidden: int, limit_s: float) -> str:
    if lost:
        return f"{lost} are lost after a kill -9 of the worker: {redelivery.rule(arena)}"
    if hidden:
        return (
            f"none is lost, but {hidden} did not come back within {limit_s:g} s of a kill -9 of the worker: "
            f"{redelivery.rule(arena)}"
        )
    return "after a kill -9 of the worker all of them are there for another"


ETA = Trial(
    "eta",
    "Tasks for an hour ahead",
    "Some more tasks than a worker prefetches were sent with a countdown of an hour, and a plain one behind "
    "them; then the worker was ended by kill -9.",
    4.0,
    _observe,
)
