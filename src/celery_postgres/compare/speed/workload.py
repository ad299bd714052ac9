"""What is sent to be measured: tasks of the probe, or those of the application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_postgres.compare.request import Call

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery_postgres.compare.request import Request

PAUSE_MS = 10
LARGE_BYTES = 10_000
CHORD_SIZE = 100


@dataclass(frozen=True)
class Workload:
    """Calls that are sent in turns, each as often as its weight says."""

    key: str
    """Ends the keys of the measures that it is measured for."""
    title: str
    """For people, in the plural: no-op tasks."""
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Workloads:
    """All of one comparison."""

    sent: tuple[Workload, ...]
    """Published and drained, one after the other. The first one stands for the application."""
    answered: Workload
    """Whose results are waited for, also as the header of a chord."""
    body: str
    """The task that gets the results of a chord's header."""
    published: tuple[Workload, ...]
    """Those of which a publish rate is told: a task that waits is published as one that does not."""

    @property
    def main(self) -> Workload:
        """For everything that is measured with one kind of task alone."""
        return self.sent[0]

    @property
    def all(self) -> tuple[Workload, ...]:
        """Each once."""
        return self.sent if self.answered in self.sent else (*self.sent, self.answered)


_NOOP = Workload("noop", "no-op tasks", (Call("compare.noop"),))
_LARGE = Workload("large", "10 kB tasks", (Call("compare.noop", ["x" * LARGE_BYTES]),))
_PAUSE = Workload("pause", "10 ms tasks", (Call("compare.pause", [PAUSE_MS]),))
_ECHO = Workload("echo", "no-op tasks", (Call("compare.echo", [1]),))


def workloads_of(request: Request) -> Workloads:
    """The application's tasks, if it gave some, in the place of all of the probe's."""
    if not request.calls:
        return Workloads((_NOOP, _LARGE, _PAUSE), _ECHO, "compare.total", (_NOOP, _LARGE))
    title = request.calls[0].task if len(request.calls) == 1 else "the mix"
    own = Workload("own", title, request.calls)
    return Workloads((own,), own, "celery.accumulate", (own,))


def in_turns(weights: Sequence[float]) -> Iterator[int]:
    """Indices without end: each as often as its weight, and spread as evenly as can be."""
    credit = [0.0] * len(weights)
    total = sum(weights)
    while True:
        for index, weight in enumerate(weights):
            credit[index] += weight
        chosen = max(range(len(weights)), key=credit.__getitem__)
        credit[chosen] -= total
        yield chosen
