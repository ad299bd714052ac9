"""What comes back from a task: its value or its error, and the sum of many in a chord."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from celery import chord
from celery.exceptions import TimeoutError as CeleryTimeoutError

from celery_postgres.verify.outcome import Fault, Finding
from celery_postgres.verify.probe import ProbeError

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from celery_postgres.verify.stage import Stage

_ROUND_TRIPS = 5
_PARTS = 10


def results(stage: Stage) -> Finding:
    """`delay().get()` returns the value, and raises the task's own error."""
    stage.some_worker()
    add = stage.client.tasks["verify.add"]
    taken = []
    for number in range(_ROUND_TRIPS):
        begin = time.monotonic()
        result = add.delay([number, 1])
        value = _awaited(stage, result)
        taken.append(time.monotonic() - begin)
        if value != number + 1:
            raise Fault(f"a task returned {number + 1}, and get() {value}", "report this as a bug")
    _require_stored(stage, result.id, "SUCCESS")
    failing = add.delay([])
    try:
        _awaited(stage, failing)
    except ProbeError:
        pass
    else:
        raise Fault("a task failed, and get() raised nothing", "report this as a bug")
    if "nothing to add" not in (failing.traceback or ""):
        raise Fault("the result of a failed task has no traceback", "report this as a bug")
    _require_stored(stage, failing.id, "FAILURE")
    round_trip = statistics.median(taken)
    return Finding(
        f"{_ROUND_TRIPS} values by delay().get() in {1000 * round_trip:.1f} ms each (median); an error came "
        "back with its type and its traceback",
        {"round_trip_s": round_trip},
    )


def _awaited(stage: Stage, result: AsyncResult) -> Any:
    try:
        return result.get(timeout=stage.request.timeout_s)
    except CeleryTimeoutError:
        raise Fault(f"no result came within {stage.request.timeout_s:g} s", "read the worker's log") from None


def _require_stored(stage: Stage, task_id: str, state: str) -> None:
    """What was heard of is also a row: it is there for who asks later."""
    if (task_id, state) not in stage.rows("SELECT task_id, state FROM {s}.result"):
        raise Fault("get() returned, and the result is not stored", "read the worker's log")


def chords(stage: Stage) -> Finding:
    """The body of a chord runs once, with the values of all parts."""
    stage.some_worker()
    add = stage.client.tasks["verify.add"]
    begin = time.monotonic()
    body = chord(add.s([number, 1]) for number in range(_PARTS))(add.s())
    value = _awaited(stage, body)
    taken = time.monotonic() - begin
    expected = sum(range(_PARTS)) + _PARTS
    runs = len(stage.notes.of("started", body.id))
    if (value, runs) != (expected, 1):
        raise Fault(f"the body returned {value} instead of {expected} in {runs} runs", "report this as a bug")
    return Finding(f"{_PARTS} parts and their body in {1000 * taken:.0f} ms: {value}", {"chord_s": taken})
