"""What the server of a contender uses while something is done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_postgres.compare import processes

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.places import Usage


@dataclass(frozen=True)
class Server:
    """The server of the messages."""

    arena: Arena
    process_id: int | None
    """None if it is not of this machine."""

    @classmethod
    def of(cls, arena: Arena) -> Server:
        return cls(arena, arena.place.process_id() if processes.visible() else None)

    def cpu_s(self) -> float | None:
        """Processor time so far, without asking the server if possible: a question costs it some, too."""
        if self.process_id is not None:
            return processes.tree_cpu_s(self.process_id)
        return self.usage().cpu_s

    def count(self) -> int | None:
        """Its processes."""
        return None if self.process_id is None else len(processes.tree(self.process_id))

    def usage(self) -> Usage:
        return self.arena.usage()


def between(before: float | None, after: float | None) -> float | None:
    """What was added; None where it cannot be read, or was begun anew meanwhile."""
    return None if before is None or after is None or after < before else after - before


def per_thousand(before: float | None, after: float | None, tasks: int) -> float | None:
    """The same for 1,000 tasks."""
    added = between(before, after)
    return added * 1000 / tasks if added is not None and tasks else None
