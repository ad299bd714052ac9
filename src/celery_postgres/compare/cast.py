"""The workers of the trials: one that stands by through all of them, and others that come to an end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from celery_postgres.verify.worker import Worker

    from .arena import Arena
    from .request import Request

#: Nothing that a worker has taken may be lost with it.
LATE: dict[str, Any] = {"task_acks_late": True, "task_reject_on_worker_lost": True}

#: Celery's own way: a message is acknowledged when its task begins.
EARLY: dict[str, Any] = {"task_acks_late": False, "task_reject_on_worker_lost": False}

#: Until a broker has noticed that a worker is gone, if it is one that notices.
_COMES_BACK_S = 0.3

_standing: WeakKeyDictionary[Arena, Worker] = WeakKeyDictionary()


def slots(request: Request) -> int:
    """How many tasks a worker of a trial runs at once."""
    return 1 if request.pool == "solo" else 2


def start(arena: Arena, *arguments: str, settings: dict[str, Any] | None = None) -> Worker:
    """A worker for the probe's tasks, not ready yet, that keeps what it holds until it is done."""
    return arena.start_worker(
        # Mingling takes a second of each start.
        "--without-mingle",
        *arguments,
        concurrency=slots(arena.request),
        ends=True,
        settings=settings or LATE,
        probe=True,
    )


def standby(arena: Arena) -> Worker:
    """A worker that is ready and takes no more than it runs; that of an earlier trial, if it still lives.

    It stays for the next trial, and takes whatever is sent: `dismiss` it before anything else is measured.
    """
    worker = _standing.get(arena)
    if worker is None or not worker.alive:
        worker = start(arena, "--prefetch-multiplier", "1", "-E")
        _standing[arena] = worker
        arena.wait_ready(worker)
    return worker


def dismiss(arena: Arena) -> None:
    """End the worker that stands by, if there is one."""
    worker = _standing.pop(arena, None)
    if worker is not None:
        worker.kill()


def leave_empty(arena: Arena) -> None:
    """End the worker that stands by, and remove all that waits, also what comes back from it."""
    dismiss(arena)
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _COMES_BACK_S:
        if arena.purge():
            quiet_since = time.monotonic()
        time.sleep(_COMES_BACK_S / 5)


def number_of(arena: Arena, worker: Worker) -> int:
    """The number under which its tasks are noted."""
    return arena.workers.index(worker) + 1
