"""Several workers of one kind, observed as one: each started by itself, or all forked from one start."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.clients import MeasurementError
from benchmarks.worker import LOOK_S, Look, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

    from benchmarks.records import Record
    from benchmarks.settings import Settings
    from benchmarks.worker import Pool


class Crew:
    """Stock workers over one queue, which note their starts in one place; use as a context manager."""

    def __init__(
        self, settings: Settings, pool: Pool, directory: Path, *, workers: int = 1, extra: Sequence[str] = ()
    ) -> None:
        self._workers = [
            Worker(settings, pool, directory, number=number, extra=extra) for number in range(workers)
        ]
        self._started = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for worker in self._workers:
                stack.enter_context(worker)
            self._started = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    @property
    def stopped_willingly(self) -> bool:
        """Whether a warm shutdown was enough for all of them."""
        return all(worker.stopped_willingly is True for worker in self._workers)

    def look(self) -> Look:
        """Return the tasks started so far, and the sums of CPU."""
        looks = [worker.look() for worker in self._workers]
        return Look(
            started=looks[0].started,
            main_cpu_s=sum(look.main_cpu_s for look in looks),
            children_cpu_s=sum(look.children_cpu_s for look in looks),
        )

    def wait(self, count: int, limit_s: float) -> bool:
        """Wait until `count` tasks have started, False if the limit came first."""
        done = self._workers[0].wait(count, limit_s)
        for worker in self._workers:
            worker.check()
        return done

    def records(self) -> list[Record]:
        """Return the starts noted so far, by whomever."""
        return self._workers[0].records()

    def log(self) -> str:
        """Return the end of the first one's log."""
        return self._workers[0].log()


class Brood(Worker):
    """Many workers of one pool, forked from one start (`brood.py`); `look` sums them up as children."""

    def __init__(
        self, settings: Settings, pool: Pool, directory: Path, *, workers: int, extra: Sequence[str] = ()
    ) -> None:
        super().__init__(settings, pool, directory, extra=extra)
        self._workers = workers
        self._ready_path = directory / "ready"

    def _command(self) -> list[str]:
        self._ready_path.unlink(missing_ok=True)
        return [
            *(sys.executable, "-m", "benchmarks.brood", str(self._workers), str(self._ready_path)),
            *self._pool.arguments,
            *self._extra,
        ]

    def demand_ready(self, limit_s: float) -> None:
        """Wait until every worker says that it is ready; MeasurementError when the limit comes first."""
        deadline = time.monotonic() + limit_s
        while (ready := self._ready_path.stat().st_size if self._ready_path.exists() else 0) < self._workers:
            self.check()
            if time.monotonic() > deadline:
                raise MeasurementError(f"{ready} of {self._workers} workers are ready:\n{self.log()}")
            time.sleep(LOOK_S)
