"""SIGTERM to a worker that runs tasks and has prefetched more."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from celery_postgres.compare import cast, waiting
from celery_postgres.compare.held import Held
from celery_postgres.compare.report.model import Behaviour
from celery_postgres.compare.tally import tally
from celery_postgres.compare.trial import Trial

from . import redelivery

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.request import Request
    from celery_postgres.verify.worker import Worker

_BEYOND = 3
#: So long the running tasks go on after the signal.
_GOES_ON_S = 2.0
_GOES_ON_QUICK_S = 0.5


def _observe(arena: Arena, request: Request) -> Behaviour:
    victim = cast.start(arena)
    standby = cast.standby(arena)
    arena.wait_ready(victim)
    held = Held(arena)
    running, prefetched = held.share(victim, standby, _BEYOND)
    held.release(*prefetched)
    fault = time.monotonic()
    victim.terminate()
    goes_on = _GOES_ON_QUICK_S if request.quick else _GOES_ON_S
    time.sleep(goes_on)  # for both: what is available at once, and what is cut off
    held.release(*running)
    let_go = time.monotonic()
    limit = waiting.patience_s(request)
    end = _end_of(victim, max(limit, 5.0))
    ended = waiting.until(lambda: held.ended(*prefetched), lambda ended: len(ended) == len(prefetched), limit)
    victim.kill()
    found = tally(arena, held.ids, fault)
    finished = len(held.ended(*running))
    at = {id_: when - fault for id_, when in held.started(*prefetched).items() if id_ in ended}
    seconds = round(max(at.values()), 3) if len(at) == len(prefetched) else None
    said = "; ".join(
        (
            _of_the_running(finished, len(running)),
            _of_the_prefetched(seconds, len(at), len(prefetched), goes_on, limit, arena),
            f"the worker ended {end - let_go:.1f} s after its last task"
            if end is not None
            else f"the worker had not ended {max(limit, 5.0):g} s after its last task, and was killed",
        )
    )
    sound = finished == len(running) and seconds is not None and end is not None
    return Behaviour(
        said,
        sound and found.lost == 0 and found.duplicated == 0,
        seconds,
        found.lost,
        found.duplicated,
        found.timeline,
    )


def _end_of(worker: Worker, limit_s: float) -> float | None:
    try:
        worker.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    return time.monotonic()


def _of_the_running(finished: int, count: int) -> str:
    return (
        f"it finished the {count} that ran"
        if finished == count
        else f"{count - finished} of the {count} that ran were cut off"
    )


def _of_the_prefetched(
    seconds: float | None, ran: int, count: int, goes_on: float, limit: float, arena: Arena
) -> str:
    if seconds is None:
        return (
            f"{count - ran} of the {count} prefetched ones did not run within {limit:g} s of its end: "
            f"{redelivery.rule(arena)}"
        )
    when = "while it was still at work" if seconds < goes_on else "only once its own tasks had ended"
    return f"the {count} prefetched ones ran elsewhere {seconds:.2f} s after the signal, {when}"


WARM = Trial(
    "warm_shutdown",
    "A worker is asked to end",
    "A worker with some tasks running and more prefetched got SIGTERM, and its tasks went on for a while; "
    "tasks are acknowledged late, and another worker stood by.",
    8.0,
    _observe,
)
