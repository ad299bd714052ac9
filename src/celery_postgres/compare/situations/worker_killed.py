"""kill -9 of a worker that holds tasks, while another one stands by."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery_postgres.compare import cast, waiting
from celery_postgres.compare.held import Held
from celery_postgres.compare.report.model import Behaviour
from celery_postgres.compare.tally import tally
from celery_postgres.compare.trial import Trial

from . import redelivery

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.request import Request

#: So many tasks are in the victim's hands and have not begun.
_BEYOND = 3


def _late(arena: Arena, request: Request) -> Behaviour:
    return _killed(arena, request, cast.LATE)


def _early(arena: Arena, request: Request) -> Behaviour:
    return _killed(arena, request, cast.EARLY)


def _killed(arena: Arena, request: Request, settings: dict[str, Any]) -> Behaviour:
    victim = cast.start(arena, settings=settings)
    standby = cast.standby(arena)
    arena.wait_ready(victim)
    held = Held(arena)
    running, begun_by_none = held.share(victim, standby, _BEYOND)
    fault = time.monotonic()
    victim.kill()
    held.release()
    # Celery acknowledges early what runs: nobody may expect that to come back.
    expected = begun_by_none if settings is cast.EARLY else [*running, *begun_by_none]
    again = waiting.until(
        lambda: held.started(*expected, since_s=fault, worker=standby),
        lambda found: len(found) == len(expected),
        waiting.patience_s(request),
    )
    arena.wait_for(lambda: again.keys() <= held.ended().keys(), "the tasks did not end", [standby])
    # A second run would come with the first, so it is there if the others are.
    found = tally(arena, held.ids, fault)
    seconds = round(max(again.values()) - fault, 3) if len(again) == len(expected) else None
    words = []
    if settings is cast.EARLY:
        gone = len(set(running) - held.ended().keys())
        words.append(
            f"{gone} of the {len(running)} that ran are lost, which is what acknowledging early means"
        )
    which = "that it had not begun" if settings is cast.EARLY else "that it held"
    if seconds is not None:
        words.append(f"the {len(expected)} {which} ran elsewhere {seconds:.2f} s after the kill")
    else:
        words.append(
            f"{len(expected) - len(again)} of the {len(expected)} {which} did not run again within "
            f"{waiting.patience_s(request):g} s: {redelivery.rule(arena)}"
        )
    return Behaviour(
        "; ".join(words),
        seconds is not None and found.duplicated == 0,
        seconds,
        found.lost,
        found.duplicated,
        found.timeline,
    )


LATE = Trial(
    "worker_killed",
    "A worker is killed",
    "A worker with some tasks running and more prefetched was ended by kill -9 together with its pool; "
    "tasks are acknowledged late (task_acks_late, task_reject_on_worker_lost), and another worker stood by.",
    14.0,
    _late,
)

EARLY = Trial(
    "worker_killed_early_ack",
    "A worker is killed, acknowledging early",
    "The same with Celery's default, by which a task is acknowledged when it begins.",
    14.0,
    _early,
)
