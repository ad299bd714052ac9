"""The measures of speed, processor time and footprint, and the sheet on which their values are put down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery_postgres.compare.report.model import Measure

from .workload import CHORD_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from .workload import Workloads

_SPEED = "speed"
_PROCESSOR = "processor time"
_FOOTPRINT = "footprint"

_PERCENTILES = (50, 95, 99)
_CPU_UNIT = "ms per 1,000 tasks"


@dataclass
class Finding:
    """What one contender did in one round. A key that is missing could not be measured."""

    values: dict[str, float] = field(default_factory=dict)
    """By the key of the measure."""
    samples: dict[str, list[float]] = field(default_factory=dict)
    """Single values by the beginning of the key: latency, roundtrip."""
    unable: dict[str, str] = field(default_factory=dict)
    """Why, by the beginning of the key."""
    others: list[float] = field(default_factory=list)
    """The parts of the machine that others used meanwhile, 0 to 1."""


@dataclass(frozen=True)
class _Definition:
    key: str
    group: str
    title: str
    unit: str
    better: Literal["more", "less", "neither"]
    note: str = ""

    @property
    def family(self) -> str:
        return self.key.partition(".")[0]


def definitions(workloads: Workloads) -> Iterator[_Definition]:
    """All measures, in the order of the report."""
    main, answered = workloads.main.title, workloads.answered.title
    for one in workloads.published:
        yield _Definition(
            f"publish.{one.key}",
            _SPEED,
            f"Publishing {one.title}",
            "tasks/s",
            "more",
            "One process calls delay() in a loop.",
        )
    for one in workloads.sent:
        yield _Definition(
            f"drain.{one.key}",
            _SPEED,
            f"Draining {one.title}",
            "tasks/s",
            "more",
            "One worker takes them from a queue in which they all wait: from the first start to the last.",
        )
    for percent in _PERCENTILES:
        yield _Definition(
            f"latency.p{percent}",
            _SPEED,
            f"Idle latency, {percent} %",
            "ms",
            "less",
            f"From before delay() to the start of the task ({main}), on a worker that is idle.",
        )
    for percent in _PERCENTILES:
        yield _Definition(
            f"roundtrip.p{percent}",
            _SPEED,
            f"Round trip, {percent} %",
            "ms",
            "less",
            f"delay().get(), one after the other ({answered}).",
        )
    yield _Definition(
        "chord",
        _SPEED,
        f"A chord of {CHORD_SIZE}",
        "ms",
        "less",
        f"{CHORD_SIZE} tasks and one that gets their results, to its result.",
    )
    yield _Definition("cpu.client", _PROCESSOR, "Client", _CPU_UNIT, "less", f"Publishing {main}.")
    yield _Definition(
        "cpu.worker", _PROCESSOR, "Worker", _CPU_UNIT, "less", f"Draining {main}, the whole pool."
    )
    yield _Definition(
        "cpu.server",
        _PROCESSOR,
        "Server",
        _CPU_UNIT,
        "less",
        "Publishing and draining: all processes of the server, whatever else it does.",
    )
    yield _Definition("cpu.all", _PROCESSOR, "Client, worker and server", _CPU_UNIT, "less")
    yield _Definition(
        "server.log",
        _FOOTPRINT,
        "Written to the server's log",
        "bytes per 1,000 tasks",
        "less",
        f"WAL or append-only file, publishing and draining {main}, whatever else the server does.",
    )
    yield _Definition(
        "server.disk",
        _FOOTPRINT,
        "On disk",
        "bytes per 1,000 tasks",
        "less",
        "Tables and indexes, while the tasks wait; once, since later rounds use the same space again.",
    )
    yield _Definition(
        "server.memory", _FOOTPRINT, "Memory of the server", "bytes", "less", "The whole server."
    )
    yield _Definition("server.processes", _FOOTPRINT, "Processes of the server", "processes", "neither")
    yield _Definition("worker.processes", _FOOTPRINT, "Processes of the worker", "processes", "neither")
    yield _Definition("worker.memory", _FOOTPRINT, "Memory of the worker", "bytes", "less", "The whole pool.")
    yield _Definition(
        "worker.connections",
        _FOOTPRINT,
        "Connections of the worker",
        "connections",
        "less",
        "Over TCP, the whole pool, after the last task.",
    )


class Sheet:
    """All findings, as the measures of a report."""

    def __init__(self, workloads: Workloads) -> None:
        self._definitions = list(definitions(workloads))
        self._findings: dict[str, list[Finding]] = {}

    def add(self, contender: str, found: Finding) -> None:
        """One more round."""
        self._findings.setdefault(contender, []).append(found)

    @property
    def others(self) -> list[float]:
        """The parts of the machine that others used, in all measurements that tell it."""
        return [share for rounds in self._findings.values() for one in rounds for share in one.others]

    def measures(self) -> list[Measure]:
        """Those of which there is a value."""
        # Of one list for all percentiles: whoever shows distributions knows by it that they are the same.
        samples: dict[str, dict[str, list[float]]] = {}
        for contender, findings in self._findings.items():
            for found in findings:
                for family, values in found.samples.items():
                    samples.setdefault(family, {}).setdefault(contender, []).extend(values)
        made = [self._measure(definition, samples) for definition in self._definitions]
        return [measure for measure in made if measure.rounds]

    def _measure(self, definition: _Definition, samples: dict[str, dict[str, list[float]]]) -> Measure:
        rounds: dict[str, list[float]] = {}
        notes = [definition.note]
        for contender, findings in self._findings.items():
            values: list[float] = []
            for found in findings:
                if definition.key not in found.values:
                    break  # what follows would stand beside another round of the others
                values.append(found.values[definition.key])
            if values:
                rounds[contender] = values
            reasons = [
                found.unable[definition.family] for found in findings if definition.family in found.unable
            ]
            if reasons:
                notes.append(f"{contender}: {reasons[0]}.")
        return Measure(
            definition.key,
            definition.group,
            definition.title,
            definition.unit,
            definition.better,
            rounds,
            samples.get(definition.family, {}),
            " ".join(filter(None, notes)),
        )
