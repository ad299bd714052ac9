"""One comparison from its beginning to its end; whatever happens, nothing is left on any server."""

from __future__ import annotations

import os
import platform
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from celery_postgres.errors import Error
from celery_postgres.verify.interruption import signals_interrupt, undisturbed
from celery_postgres.verify.outcome import Fault

from . import fairness
from .arena import Arena
from .contenders import Candidate, candidates
from .failure import Failure, worded
from .report.model import Contender, Report
from .rounds import rounds
from .speed import Sheet, workloads_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .progress import Step
    from .request import Request

_LIBRARIES = ("celery-postgres", "celery", "kombu", "psycopg", "redis", "amqp", "sqlalchemy", "pgmq")


class Comparison:
    """All that was asked for. `report` grows as it runs."""

    def __init__(
        self,
        request: Request,
        command: Sequence[str],
        tell: Callable[[str], None],
        at: Callable[[Step], None] = lambda _: None,
    ) -> None:
        """`tell` hears what stays worth knowing; `at` what is being done at the moment."""
        self.report = Report(
            command=list(command),
            began=datetime.now().astimezone().isoformat(timespec="seconds"),
            environment=_environment(),
            workload=_workload(request),
            planned_rounds=request.rounds,
            baseline="",
        )
        self._request = request
        self._tell = tell
        self._at = at
        self._sheet = Sheet(workloads_of(request))
        self._arenas: list[Arena] = []
        self._standings: list[fairness.Standing] = []

    @property
    def arenas(self) -> list[Arena]:
        """Of the contenders that still take part."""
        failed = {contender.name for contender in self.report.contenders if contender.failure}
        return [arena for arena in self._arenas if arena.name not in failed]

    def run(self) -> None:
        """Once, and in the main thread. What goes wrong with a contender stands in the report.

        Whatever happens, also a signal, the workers are ended and the places removed. After a signal the
        report says that it was interrupted.
        """
        begin = time.monotonic()
        with signals_interrupt():
            stack = ExitStack()
            try:
                self._make_ready(stack)
                self.report.warnings += fairness.of_contenders(self._standings)
                rounds(self, self._request, self._sheet, self._at)
            except KeyboardInterrupt:
                self.report.interrupted = True
            finally:
                with undisturbed():
                    stack.close()
                    self.report.warnings += fairness.of_measurement(self.report, self._sheet.others)
                    self.report.warnings += [said for arena in self._arenas for said in arena.remains]
        self.report.took_s = time.monotonic() - begin

    def attempt(self, arena: Arena, act: Callable[[Arena], object]) -> bool:
        """Do something with a contender, which takes no part any more if that fails; whether it went well."""
        try:
            act(arena)
        except (Failure, Fault, Error) as failure:
            self._drop(arena.name, str(failure))
        except Exception as error:  # noqa: BLE001 - a driver's error is one contender's, not the others'
            self._drop(arena.name, f"{type(error).__name__}: {worded(error)}: look into the broker's log")
        else:
            return True
        return False

    def _make_ready(self, stack: ExitStack) -> None:
        for candidate in candidates(self._request):
            if isinstance(candidate, Contender):
                self.report.contenders.append(candidate)
                self._tell(f"{candidate.name}: {candidate.failure}")
                continue
            self._enter(stack, candidate)
        if self.report.contenders:
            self.report.baseline = self.report.contenders[0].name

    def _enter(self, stack: ExitStack, candidate: Candidate) -> None:
        arena = Arena(candidate, self._request)
        self.report.contenders.append(candidate.failed(""))

        def enter(arena: Arena) -> None:
            stack.enter_context(arena)
            self._standings.append(fairness.Standing.of(arena))

        if self.attempt(arena, enter):
            self._arenas.append(arena)
            self.report.contenders[-1] = arena.contender
            self._tell(f"{arena.name} {arena.contender.version}: {arena.contender.broker}")

    def _drop(self, name: str, said: str) -> None:
        self.report.contenders = [
            replace(contender, failure=said) if contender.name == name else contender
            for contender in self.report.contenders
        ]
        self._tell(f"{name}: {said}")


def _workload(request: Request) -> str:
    if request.calls:
        named = (f"{call.task} ({call.weight:g})" for call in request.calls)
        tasks = request.calls[0].task if len(request.calls) == 1 else f"A mix of {', '.join(named)}"
        tasks = f"{tasks} of -A {request.application}"
    else:
        tasks = "No-op tasks, tasks of 10 ms and tasks of 10 kB"
    return f"{tasks}; a worker with the pool {request.pool} and a concurrency of {request.concurrency}."


def _environment() -> dict[str, str]:
    found = {
        "machine": f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
