"""A stock `celery worker` as a child process, observed from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import processes, records
from benchmarks.clients import ROOT, MeasurementError, tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

    from benchmarks.settings import Settings

# How often the observer looks: a stat of one file.
LOOK_S = 0.01

# A worker starts within a few seconds; Celery's mingle alone takes one.
START_S = 30.0

_STOP_S = 15.0

_READY = re.compile(rb" ready\.\s")


@dataclass(frozen=True)
class Pool:
    """A pool as the command line of `celery worker` names it."""

    kind: str
    concurrency: int | None = None

    @classmethod
    def parse(cls, text: str) -> Pool:
        """Read `prefork:2` or `solo`; ValueError for anything else."""
        kind, _, concurrency = text.partition(":")
        if kind not in ("prefork", "solo", "threads", "gevent", "eventlet"):
            raise ValueError(f"no pool is called {kind!r}; write prefork:2, solo, threads:10 or gevent:100")
        return cls(kind, int(concurrency) if concurrency else None)

    @property
    def is_green(self) -> bool:
        """Whether tasks run in greenlets."""
        return self.kind in ("gevent", "eventlet")

    @property
    def arguments(self) -> list[str]:
        """The arguments for `celery worker`."""
        given = [] if self.concurrency is None else ["-c", str(self.concurrency)]
        return ["-P", self.kind, *given]

    def __str__(self) -> str:
        return " ".join([self.kind, *self.arguments[2:]])


# The pool of most deployments that are no larger than the machines these figures are for.
PREFORK = Pool("prefork", 2)

# One process for each worker.
SOLO = Pool("solo")


@dataclass(frozen=True)
class Look:
    """What could be seen of a worker at one moment."""

    started: int
    main_cpu_s: float
    children_cpu_s: float


class Worker:
    """A running worker with Celery's defaults; use as a context manager.

    Workers of several numbers write into one file of records, which number 0 begins.
    `stopped_willingly` is None until the end, then whether a warm shutdown was enough.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        directory: Path,
        *,
        number: int = 0,
        name: str | None = None,
        extra: Sequence[str] = (),
        wrapper: Sequence[str] = (),
    ) -> None:
        """`extra` are arguments for `celery worker`; `wrapper` is the command that runs it.

        `number` or `name` tells several of one queue apart.
        """
        # Short: kombu's pgmq makes a table's name of it, and of the queue's.
        self._name = name or f"w{number}"
        self._wrapper = wrapper
        self._record_path = directory / "records"
        self._log_path = directory / f"worker{number}.log"
        self._number = number
        self._extra = extra
        self._settings = settings.changed(record_path=str(self._record_path))
        self._pool = pool
        self.stopped_willingly: bool | None = None

    def __enter__(self) -> Self:
        if not self._number:
            self._record_path.unlink(missing_ok=True)
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._wrapper, *self._command()],
                cwd=ROOT,
                env=self._settings.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "celery", "-A", "benchmarks.application", "worker"),
            *self._pool.arguments,
            *("-n", f"{self._name}@%h"),
            *self._extra,
        ]

    def __exit__(self, *_: object) -> None:
        self.stopped_willingly = processes.stop(self._process, _STOP_S)

    @property
    def pid(self) -> int:
        """The main process."""
        return self._process.pid

    def look(self) -> Look:
        """Return the number of tasks started so far and the CPU spent on them."""
        return Look(
            started=records.count(self._record_path),
            main_cpu_s=processes.cpu_s(self.pid),
            children_cpu_s=sum(processes.cpu_s(child) for child in processes.children(self.pid)),
        )

    def wait(self, count: int, limit_s: float) -> bool:
        """Wait until `count` tasks have started, False if the limit came first.

        Raises MeasurementError when the worker has ended.
        """
        deadline = time.monotonic() + limit_s
        while records.count(self._record_path) < count:
            self.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        return True

    def check(self) -> None:
        """Raise MeasurementError when the worker has ended."""
        if self._process.poll() is not None:
            raise MeasurementError(f"a worker ended with {self._process.returncode}:\n{self.log()}")

    def wait_until_ready(self, limit_s: float) -> bool:
        """Wait until it consumes, False if the limit came first or it has ended; asks for `-l INFO`."""
        deadline = time.monotonic() + limit_s
        while not _READY.search(self._log_path.read_bytes()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        return True

    def kill(self) -> None:
        """Kill it and all that it started, without a word."""
        os.killpg(self.pid, signal.SIGKILL)

    def records(self) -> list[records.Record]:
        """Return the starts noted so far."""
        return records.read(self._record_path)

    def log(self) -> str:
        """Return the end of the worker's log."""
        return tail(self._log_path)
