"""What a worker does with tasks: one job, their order by priority, retries, failure."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from celery_postgres.verify.outcome import Fault, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_postgres.verify.notes import Note
    from celery_postgres.verify.stage import Stage

_PRIORITIES = (0, 5, 0, 10)
_JOBS = 5
_DELAY = 1.0
_RETRIES = 2

# The clock of the server decides when a task is due, that of this machine when it started.
_CLOCKS_MAY_DIFFER = 0.05


def priority(stage: Stage) -> Finding:
    """Published in one order before any worker runs, executed in that of their priorities."""
    ids = [stage.send("echo", priority, priority=priority) for priority in _PRIORITIES]
    highest_first = stage.request.options.priority_order == "amqp"
    expected = sorted(_PRIORITIES, reverse=highest_first)
    begin = time.monotonic()
    worker = stage.start_worker()
    ready = stage.wait_ready(worker).at - begin
    stage.wait("succeeded", *ids)
    of = dict(zip(ids, _PRIORITIES, strict=True))
    order = [note.task_id or "" for note in stage.notes.of("started", *ids)]
    # Equal ones in the order in which they were published.
    wanted = sorted(ids, key=lambda id_: of[id_], reverse=highest_first)
    if order != wanted:
        raise Fault(
            f"published with priorities {_spoken(_PRIORITIES)}, executed as "
            f"{_spoken([of[id_] for id_ in order])} instead of {_spoken(expected)}",
            "look whether another worker consumes the schema of the verification; else report a bug",
        )
    which = "highest" if highest_first else "lowest"
    return Finding(
        f"published {_spoken(_PRIORITIES)}, executed {_spoken(expected)}: {which} first; "
        f"the worker was ready after {ready:.1f} s",
        {"order": expected, "worker_ready_s": ready},
    )


def job(stage: Stage) -> Finding:
    """A job that is sent to an idle worker starts at once and succeeds."""
    stage.some_worker()
    publishing, starting = [], []
    for number in range(_JOBS):
        begin = time.monotonic()
        id_ = stage.send("echo", number)
        publishing.append(time.monotonic() - begin)
        stage.wait("succeeded", id_)
        starting.append(stage.notes.of("started", id_)[0].at - begin)
    publish, start = statistics.median(publishing), statistics.median(starting)
    return Finding(
        f"{_JOBS} jobs: committed in {1000 * publish:.1f} ms, begun in a worker {1000 * start:.1f} ms after "
        "the call (medians)",
        {"publish_s": publish, "start_s": start},
    )


def retries(stage: Stage) -> Finding:
    """A task that fails twice runs three times, each retry after its delay, and succeeds."""
    stage.some_worker()
    id_ = stage.send("flaky", _RETRIES, _DELAY)
    stage.wait("succeeded", id_)
    return _runs(stage, id_, "and then success")


def failure(stage: Stage) -> Finding:
    """A task that always fails runs max_retries + 1 times and ends with its traceback."""
    stage.some_worker()
    id_ = stage.send("broken", _RETRIES, _DELAY)
    failed = stage.wait("failed", id_)[0]
    if "ProbeError: broken on purpose" not in failed.facts["traceback"]:
        raise Fault(f"the task failed otherwise: {failed.facts['error']}", "read the worker's log")
    return _runs(stage, id_, "and then failure, with its traceback")


def _runs(stage: Stage, id_: str, end: str) -> Finding:
    """Just as many runs as there were to be, with the delay between them, and no message left for another."""
    runs = stage.notes.of("started", id_)
    gaps = _gaps(runs)
    stage.wait_for(
        lambda: (id_,) not in stage.rows("SELECT task_id FROM {s}.message"), "a message of the task is left"
    )
    if len(runs) != _RETRIES + 1:
        raise Fault(f"{len(runs)} runs instead of {_RETRIES + 1}", "read the worker's log")
    if min(gaps) < _DELAY - _CLOCKS_MAY_DIFFER:
        raise Fault(
            f"a retry came after {min(gaps):.2f} s instead of {_DELAY:g} s",
            "compare the clocks of this machine and of the database server",
        )
    apart = " s and ".join(f"{gap:.2f}" for gap in gaps)
    return Finding(
        f"{len(runs)} runs, {apart} s apart (delay {_DELAY:g} s), {end}",
        {"runs": len(runs), "gaps_s": gaps},
    )


def _gaps(runs: Sequence[Note]) -> list[float]:
    return [later.at - earlier.at for earlier, later in pairwise(runs)]


def _spoken(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
