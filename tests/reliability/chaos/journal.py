"""What happened, in files outside the database: one line for each thing, written at once.

A line is a single write in append mode: what was written stays although the writer is killed a moment later,
and no other process tears it. `keep_on_disk` makes it bear more than that.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEGIN, END = "begin", "end"
"""Of an execution: task id, retries, redelivered, node, process id."""

INTENT, OK, ERROR, UNKNOWN = "intent", "ok", "error", "unknown"
"""Of a publish: task id, what for; an error means that it is not stored, unknown that nobody can say."""

SYNC_EVERY_S = 0.02


class Journal:
    """Appends to one file; safe between threads and over forks."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, event: str, *values: object) -> None:
        words = (event, f"{time.monotonic():.4f}", *map(str, values))
        os.write(self._file, ("\t".join(words) + "\n").encode())

    def close(self) -> None:
        os.close(self._file)


class Tail:
    """Reads what a file has got since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> Iterator[list[str]]:
        """The words of each complete new line: event, monotonic time, values."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        for line in complete.splitlines():
            yield line.decode().split("\t")


class KeepOnDisk:
    """Sees to it that a journal is on the disk soon after it was written."""

    def __init__(self, *paths: Path) -> None:
        self._files = [os.open(path, os.O_RDONLY | os.O_CREAT, 0o644) for path in paths]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="fsync", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stopped.wait(SYNC_EVERY_S):
            for file in self._files:
                os.fsync(file)

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        for file in self._files:
            os.close(file)
