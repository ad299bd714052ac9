"""The worker of one round: with Celery's defaults, but for one second less at its start."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.compare.arena import Arena
    from celery_postgres.verify.worker import Worker


def start(arena: Arena, ends: bool = False) -> Worker:
    """Without the mingling: one second in which a worker waits for others before it takes its first task.

    The level of its log is Celery's default: two lines for each task would cost as much as a broker.
    """
    return arena.start_worker("--without-mingle", "-l", "WARNING", ends=ends)


@contextmanager
def running(arena: Arena) -> Iterator[Worker]:
    """One that consumes. Killed at the end, when it holds nothing any more: a warm end takes its time."""
    worker = start(arena)
    try:
        arena.wait_ready(worker)
        yield worker
    finally:
        worker.kill()
