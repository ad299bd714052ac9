"""`profile`: one drain with py-spy on the worker's main process.

The profile of one run on one machine: read shares, and only the large ones.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.clients import MeasurementError
from benchmarks.publisher import WARM_UP, Order
from benchmarks.publishing import publish
from benchmarks.tables import Table
from benchmarks.worker import PREFORK, START_S, Pool, Worker

if TYPE_CHECKING:
    import argparse

    from benchmarks.brokers import Broker

FLAMEGRAPH = "flamegraph"
RAW = "raw"

_TOP = 25


@dataclass(frozen=True)
class Options:
    """`rate` is in samples per second; the count must last for `seconds`, or the profile is shorter."""

    count: int = 20000
    pool: Pool = PREFORK
    seconds: int = 4
    rate: int = 200
    format: str = RAW
    output: Path | None = None


def run(broker: Broker, options: Options, directory: Path) -> str:
    """Profile one drain, write the output file, and return what there is to say about it."""
    recorder = _py_spy()
    output = options.output or _default_output(broker.peer.name, options.format)
    order = Order(options.count - WARM_UP)
    waiting = publish(broker, broker.settings(), order, 1, directory).sent + WARM_UP
    with Worker(broker.settings(count=waiting), options.pool, directory) as worker:
        if not worker.wait(1, START_S):
            raise MeasurementError(f"no task started within {START_S:.0f} s\n{worker.log()}")
        before = worker.look()
        recorded = subprocess.run(
            [
                *(recorder, "record", "--pid", str(worker.pid), "--format", options.format),
                *("--duration", str(options.seconds), "--rate", str(options.rate), "--output", str(output)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        after = worker.look()
    broker.purge()
    if recorded.returncode:
        raise MeasurementError(f"py-spy failed:\n{recorded.stderr.strip()}")
    summary = (
        f"{broker.peer.name}, {options.pool}: {after.started - before.started} tasks started,"
        f" {after.main_cpu_s - before.main_cpu_s:.2f} s CPU of the main process; written to {output}"
    )
    parts = [summary]
    if after.started >= waiting:
        parts.append("The queue was empty before the end: part of the profile shows an idle worker.")
    if options.format == RAW:
        parts.append(str(top_functions(output.read_text())))
    return "\n\n".join(parts)


def top_functions(raw: str) -> Table:
    """Sum up py-spy's raw format: one line per stack, `frame;frame;frame samples`."""
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, samples = line.rpartition(" ")
        # Line numbers would split a function into its lines.
        frames = [frame.rpartition(":")[0] + ")" if ":" in frame else frame for frame in stack.split(";")]
        own[frames[-1]] += int(samples)
        for frame in set(frames):
            inclusive[frame] += int(samples)
    total = sum(own.values()) or 1
    return Table(
        f"Share of {total} samples",
        ["function", "self %", "inclusive %"],
        [
            [frame, f"{100 * samples / total:.1f}", f"{100 * inclusive[frame] / total:.1f}"]
            for frame, samples in own.most_common(_TOP)
        ],
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `Options` holds."""
    defaults = Options()
    parser.add_argument("--peer", type=peers.named, required=True)
    parser.add_argument("--count", type=int, default=defaults.count, help="tasks to preload")
    parser.add_argument("--pool", type=Pool.parse, default=defaults.pool, help="such as prefork:2")
    parser.add_argument("--seconds", type=int, default=defaults.seconds)
    parser.add_argument("--rate", type=int, default=defaults.rate, help="samples per second")
    parser.add_argument("--format", choices=(RAW, FLAMEGRAPH), default=defaults.format)
    parser.add_argument("--output", type=Path, help="the file to write, else one for temporary files")


def _default_output(peer: str, format_name: str) -> Path:
    suffix = "svg" if format_name == FLAMEGRAPH else "txt"
    return Path(tempfile.gettempdir()) / f"celery-postgres-profile-{peer}.{suffix}"


def _py_spy() -> str:
    """py-spy is nobody's dependency: it is used where it is."""
    beside_python = Path(sys.executable).with_name("py-spy")
    found = str(beside_python) if beside_python.exists() else shutil.which("py-spy")
    if not found:
        raise MeasurementError("py-spy is not installed; install it with `pip install py-spy`")
    return found
