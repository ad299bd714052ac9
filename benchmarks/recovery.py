"""`recovery`: from `kill -9` of a worker to the start of what it held, on another worker.

Two workers stand idle; whichever takes the task is killed while it runs, with its pool, and the other one
runs the task again. Then another worker takes its place. So the one that is killed is sometimes the older,
which has the duties of the broker's clock if the workers have any, and sometimes the younger.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import peers, tables
from benchmarks.clients import MeasurementError
from benchmarks.figure import Figure, listed
from benchmarks.measurement import Measurement, Values, interleave
from benchmarks.statistics import percentile
from benchmarks.worker import PREFORK, START_S, Pool, Worker

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.tables import Table

PERCENTILES = (50, 95, 99)
COLUMNS = (*(f"p{percent} s" for percent in PERCENTILES), "max s")
WITHIN = "within the limit"

SAME_HOST = "same host"
OTHER_HOST = "other pid namespace"
PLACES = {"host": SAME_HOST, "namespace": OTHER_HOST}

# A worker that has just started has not taken up everything yet.
_SETTLE_S = 2.0
# Three dead within ten seconds look like a network that has failed, and everybody gets five seconds more:
# that is another figure.
_APART_S = 5.5
_LOOK_S = 0.002
_TAKE_S = 10.0


@dataclass(frozen=True)
class Options:
    """`limit_s`: what has not come back by then is not waited for, and ends the measurement."""

    kills: int = 10
    rounds: int = 1
    places: tuple[str, ...] = ("host", "namespace")
    pool: Pool = PREFORK
    limit_s: float = 40.0


@dataclass(frozen=True)
class Cell:
    """Where the workers are, seen from each other."""

    place: str

    def __str__(self) -> str:
        return self.place


def run(brokers: Sequence[Broker], options: Options, directory: Path) -> list[Measurement]:
    """Kill as many workers of every broker in every place and round."""
    return interleave(
        options.rounds,
        [Cell(PLACES[place]) for place in options.places],
        lambda _: brokers,
        lambda broker, cell: measure(broker, cell, options, directory),
    )


def measure(broker: Broker, cell: Cell, options: Options, directory: Path) -> tuple[Values, list[str]]:
    """Kill, wait and replace, and return the percentiles."""
    took_s: list[float] = []
    with ExitStack() as stack:
        crew = Crew(broker, cell, options.pool, directory, stack)
        crew.start()
        crew.start()
        for number in range(1, options.kills + 1):
            due = time.monotonic() + _APART_S
            passed = crew.kill_holder(number, options.limit_s)
            if passed is None:
                break
            took_s.append(passed)
            crew.start()
            time.sleep(max(0.0, due - time.monotonic()))
    broker.purge()
    values: Values = {WITHIN: float(len(took_s))}
    if len(took_s) == options.kills:
        values |= {f"p{percent} s": percentile(took_s, percent) for percent in PERCENTILES}
        values["max s"] = max(took_s)
        return values, []
    return values, [f"kill {len(took_s) + 1}: not within {options.limit_s:g} s"]


class Crew:
    """The workers of one measurement, each with a directory of its own."""

    def __init__(self, broker: Broker, cell: Cell, pool: Pool, directory: Path, stack: ExitStack) -> None:
        self._released = directory / "released"
        self._broker = broker
        self._settings = broker.settings(acks_late=True, prefetch_multiplier=1, hold_path=str(self._released))
        self._pool = pool
        self._directory = directory
        self._stack = stack
        self._numbers: Iterator[int] = itertools.count(1)
        self._workers: list[Worker] = []
        self._wrapper = _namespace() if cell.place == OTHER_HOST else ()

    def start(self) -> None:
        """One more worker; returns when it has nothing to do."""
        number = next(self._numbers)
        place = self._directory / f"worker{number}"
        place.mkdir(exist_ok=True)
        worker = Worker(
            self._settings,
            self._pool,
            place,
            name=f"worker{number}",
            extra=("-l", "INFO"),
            wrapper=self._wrapper,
        )
        self._workers.append(self._stack.enter_context(worker))
        if not worker.wait_until_ready(START_S):
            raise MeasurementError(f"a worker did not start within {START_S:.0f} s\n{worker.log()}")
        time.sleep(_SETTLE_S)

    def kill_holder(self, number: int, limit_s: float) -> float | None:
        """Seconds until the task has started again elsewhere; None if it did not within the limit."""
        self._released.unlink(missing_ok=True)
        self._broker.send("benchmarks.hold", number)
        holder = self._wait_for_start(number, _TAKE_S)
        if holder is None:
            raise MeasurementError(f"nobody took the task\n{self._workers[0].log()}")
        self._workers.remove(holder)
        killed_ns = time.monotonic_ns()
        holder.kill()
        self._released.touch()
        other = self._wait_for_start(number, limit_s)
        if other is None:
            return None
        (start,) = (record.started_ns for record in other.records() if record.number == number)
        return (start - killed_ns) / 1e9

    def _wait_for_start(self, number: int, limit_s: float) -> Worker | None:
        """The worker that has started the task, None if nobody has within the limit."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            for worker in self._workers:
                if any(record.number == number for record in worker.records()):
                    return worker
            time.sleep(_LOOK_S)
        return None


def _namespace() -> tuple[str, ...]:
    """What runs a worker where it sees no process of the others."""
    wrapper = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if shutil.which("unshare") is None or subprocess.run([*wrapper, "true"], check=False).returncode:
        raise MeasurementError(
            "this user may not make a pid namespace: run it as root, or without that place"
        )
    return wrapper


def _tables(measurements: Sequence[Measurement], _: str) -> list[Table]:
    return [
        tables.by_value(f"kill -9 to the next start, {cell}", measurements, cell, (*COLUMNS, WITHIN))
        for cell in tables.cells_of(measurements)
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.add_argument("--kills", type=int, default=defaults.kills, help="per measurement")
    parser.add_argument(
        "--places", type=listed(_place), default=defaults.places, help="host, namespace or both, with a comma"
    )
    parser.add_argument("--pool", type=Pool.parse, default=defaults.pool, help="such as prefork:2")
    parser.add_argument(
        "--limit-s", type=float, default=defaults.limit_s, help="what takes longer is not waited for"
    )


def _place(text: str) -> str:
    if text not in PLACES:
        raise ValueError(f"no place is called {text!r}; choose from {', '.join(PLACES)}")
    return text


def _options(given: argparse.Namespace) -> Options:
    return Options(
        kills=given.kills, rounds=given.rounds, places=given.places, pool=given.pool, limit_s=given.limit_s
    )


FIGURE = Figure(
    peers.RECOVERY,
    "kill -9 of a worker to the next start of its task",
    _add_arguments,
    _options,
    run,
    _tables,
)
