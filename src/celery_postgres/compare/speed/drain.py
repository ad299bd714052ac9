"""Starts of tasks, as the notes of the workers tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.compare.notes import Event, key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celery_postgres.compare.arena import Arena
    from celery_postgres.verify.worker import Worker


def wait_started(arena: Arena, ids: Sequence[str], worker: Worker, known: int = 0) -> None:
    """Until all of them have started, beside `known` others. Raises Failure, also for a task that failed."""
    wanted = {key(id_) for id_ in ids}

    def started() -> bool:
        # The number is quickly had; a task may have sent others, or started twice.
        return arena.notes.count() >= known + len(wanted) and wanted <= first_starts(arena).keys()

    def happened() -> bool:
        arena.raise_failed_tasks()
        return started()

    arena.wait_for(happened, f"not all of {len(wanted)} tasks started", [worker])


def first_starts(arena: Arena) -> dict[bytes, int]:
    """When each task started for the first time (monotonic ns), by its key in the notes."""
    found: dict[bytes, int] = {}
    for note in arena.notes.of(Event.STARTED):
        found.setdefault(note.key, note.at_ns)
    return found


def each_s(starts: dict[bytes, int], ids: Iterable[str]) -> float:
    """The seconds from one start to the next; at least two tasks have to have started."""
    times = sorted(starts[key(id_)] for id_ in ids if key(id_) in starts)
    # Those of one batch may have started at the same tick of the clock.
    return max(times[-1] - times[0], 1) / 1e9 / (len(times) - 1)
