"""What happens when a worker ends: killed, or asked to stop."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from celery_postgres.process import this_process
from celery_postgres.verify.outcome import Fault, Finding, NotRun

if TYPE_CHECKING:
    from celery_postgres.verify.stage import Stage
    from celery_postgres.verify.worker import Worker

_LINGER = 1.0
_WAITING = 3

#: After so long a dead worker is noticed where neither session locks nor the system tell of it.
_NOTICED_POOLED = 45.0


def redelivery(stage: Stage) -> Finding:
    """What a worker ran when it was killed is run again by another one (late acknowledgement)."""
    assert stage.server is not None
    unseen = stage.server.pooled and not this_process().visible
    if unseen and stage.request.timeout_s < _NOTICED_POOLED:
        raise NotRun(
            "behind a transaction pooler a dead worker that nobody sees is noticed after 30 s; "
            f"--timeout {_NOTICED_POOLED:g} lets this run"
        )
    stage.wait_ready(stage.some_worker())
    spare = stage.start_worker()
    stage.wait_ready(spare)
    id_ = stage.send("hold")
    first = stage.wait("started", id_)[0]
    killed = _worker(stage, first.worker)
    begin = time.monotonic()
    killed.kill()
    second = stage.wait("started", id_, count=2)[1]
    stage.wait("succeeded", id_)
    taken = second.at - begin
    if second.worker == first.worker or not second.facts["redelivered"]:
        raise Fault("the second delivery was not one to another worker", "report this as a bug")
    return Finding(
        f"killed by SIGKILL in the middle of a task; another worker ran it {taken:.2f} s later",
        {"redelivered_after_s": taken},
    )


def shutdown(stage: Stage) -> Finding:
    """A worker that is told to stop ends its task and gives back what waited in its memory."""
    worker = stage.some_worker()
    for other in stage.workers:
        if other is not worker:
            other.kill()

    def held() -> set[str]:
        rows = stage.rows("SELECT m.task_id FROM {s}.unacked u JOIN {s}.message m ON m.id = u.message_id")
        return {id_ for (id_,) in rows}

    running = stage.send("linger", _LINGER)
    waiting = [stage.send("echo", number) for number in range(_WAITING)]
    stage.wait("started", running)
    stage.wait_for(
        lambda: held() & set(waiting), "the worker took no message to wait in its memory", [worker]
    )
    begin, limit = time.monotonic(), stage.request.timeout_s
    worker.terminate()
    try:
        code = worker.wait(limit)
    except subprocess.TimeoutExpired:
        raise Fault(f"the worker was still there {limit:g} s after SIGTERM", "read its log") from None
    taken = time.monotonic() - begin
    ready = stage.rows("SELECT m.task_id FROM {s}.ready r JOIN {s}.message m ON m.id = r.message_id")
    back = {id_ for (id_,) in ready} & set(waiting)
    if code != 0 or not stage.notes.of("succeeded", running):
        raise Fault(f"the running task did not end: the worker's exit code is {code}", "read its log")
    if len(back) < _WAITING or stage.notes.of("started", *waiting):
        raise Fault(f"{len(back)} of {_WAITING} waiting messages are ready again", "report this as a bug")
    return Finding(
        f"after SIGTERM the running task was finished, {_WAITING} waiting ones given back, exit code 0, in "
        f"{taken:.1f} s",
        {"shutdown_s": taken},
    )


def _worker(stage: Stage, name: str) -> Worker:
    return next(worker for worker in stage.workers if worker.name == name)
