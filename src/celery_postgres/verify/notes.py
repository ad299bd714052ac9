"""What happens in the workers, told to the process that verifies: one line of JSON for each event, in a file.

A file and not the broker, since the broker is what is being verified. Times are of the monotonic clock,
which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Note:
    """One event: which, of which task, by which worker and process, when."""

    event: str
    task_id: str | None
    worker: str
    pid: int
    at: float
    facts: dict[str, Any] = field(default_factory=dict)


def write(path: Path, event: str, task_id: str | None, worker: str, **facts: Any) -> None:
    """Append one note. Any number of processes may do so at once."""
    line = json.dumps(
        {
            "event": event,
            "task_id": task_id,
            "worker": worker,
            "pid": os.getpid(),
            "at": time.monotonic(),
            "facts": facts,
        }
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


class Notes:
    """The notes of one verification, in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes: list[Note] = []
        self._read = 0

    def of(self, event: str, *task_ids: str) -> list[Note]:
        """All notes of an event so far; only those of the tasks, if any are given."""
        self._update()
        return [
            note for note in self._notes if note.event == event and (not task_ids or note.task_id in task_ids)
        ]

    def _update(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            # The last line may not be complete yet.
            whole = file.read().rpartition(b"\n")
        self._read += len(whole[0]) + len(whole[1])
        self._notes += [Note(**json.loads(line)) for line in whole[0].splitlines()]
