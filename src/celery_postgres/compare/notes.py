"""When tasks start and end: 32 bytes for each event, in a file, which costs a worker about two microseconds.

A file and not the broker, since the broker is what is measured. An append of so few bytes is one write: it is
atomic among the processes and threads of all workers. Times are of the monotonic clock, in nanoseconds, which
all processes of a machine share.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_LAYOUT = struct.Struct("<16sqiHBB")


class Event(IntEnum):
    """What happened to a task."""

    STARTED = 1
    SUCCEEDED = 2
    FAILED = 3
    RETRIED = 4


class Note(NamedTuple):
    """One event: of which task (its `key`), when, in which process of which worker."""

    key: bytes
    at_ns: int
    pid: int
    worker: int
    event: Event
    redelivered: bool


def key(task_id: str) -> bytes:
    """Sixteen bytes that stand for a task: those of the UUID, where its id is one."""
    try:
        found = bytes.fromhex(task_id.replace("-", ""))
    except ValueError:
        found = b""
    return found if len(found) == 16 else hashlib.md5(task_id.encode(), usedforsecurity=False).digest()


class Pen:
    """The worker's end. The file is opened at once, before the pool forks."""

    def __init__(self, path: Path, worker: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._worker = worker

    def write(self, event: Event, task_id: str, redelivered: bool = False) -> None:
        """Append one note."""
        now = time.monotonic_ns()
        os.write(
            self._descriptor,
            _LAYOUT.pack(key(task_id), now, os.getpid(), self._worker, event, redelivered),
        )


class Notes:
    """The observer's end; the workers notice nothing of it. Not for several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes: list[Note] = []
        self._counts: Counter[Event] = Counter()
        self._read = 0

    def count(self, event: Event = Event.STARTED) -> int:
        """How many there are of this event so far, all workers together."""
        self._update()
        return self._counts[event]

    def all(self) -> list[Note]:
        """All so far, in the order in which they were written."""
        self._update()
        return list(self._notes)

    def of(self, event: Event, *task_ids: str) -> list[Note]:
        """All of an event so far; only those of the tasks, if any are given."""
        self._update()
        keys = {key(task_id) for task_id in task_ids}
        return [note for note in self._notes if note.event == event and (not keys or note.key in keys)]

    def forget(self) -> None:
        """Begin anew: what was noted up to now is not told any more."""
        self._update()
        self._notes.clear()
        self._counts.clear()

    def _update(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = len(data) - len(data) % _LAYOUT.size
        self._read += whole
        for task, at_ns, pid, worker, event, redelivered in _LAYOUT.iter_unpack(data[:whole]):
            self._notes.append(Note(task, at_ns, pid, worker, Event(event), bool(redelivered)))
            self._counts[Event(event)] += 1
