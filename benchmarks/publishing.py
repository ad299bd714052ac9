"""The observer's end of the publishing processes: start together, sum up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import bystanders, processes
from benchmarks.publisher import Order, Outcome

if TYPE_CHECKING:
    from typing_extensions import Self

    from benchmarks.brokers import Broker
    from benchmarks.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


class MeasurementError(Exception):
    """A child process did not do what was asked; the message holds the end of its log."""


@dataclass(frozen=True)
class Published:
    """One measurement of publishing. CPU is in ms per 1,000 messages, None where it cannot be seen."""

    sent: int
    per_s: float
    client_cpu_ms: float
    server_cpu_ms: float | None
    others_percent: float


class Publishers:
    """Publishing processes that are warmed up on entry and ended on exit."""

    def __init__(self, settings: Settings, order: Order, processes_count: int, directory: Path) -> None:
        self._settings = settings
        self._order = order
        self._count = processes_count
        self._log_path = directory / "publisher.log"
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        with self._log_path.open("wb") as log:
            for _ in range(self._count):
                self._children.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "benchmarks.publisher", json.dumps(asdict(self._order))],
                        cwd=ROOT,
                        env=self._settings.environment(),
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        try:
            for child in self._children:
                self._line(child)
        except MeasurementError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
            processes.stop(child, patience_s=5)

    def go(self) -> list[Outcome]:
        """Let all of them send, and wait for the last one."""
        self.begin()
        return self.finish()

    def begin(self) -> None:
        """Let all of them send."""
        for child in self._children:
            assert child.stdin is not None
            child.stdin.write(b"go\n")
            child.stdin.flush()

    def finish(self) -> list[Outcome]:
        """Wait until all have sent."""
        return [Outcome(**json.loads(self._line(child))) for child in self._children]

    def _line(self, child: subprocess.Popen[bytes]) -> bytes:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            child.wait()
            raise MeasurementError(f"a publisher ended with {child.returncode}:\n{tail(self._log_path)}")
        return line


def publish(broker: Broker, settings: Settings, order: Order, count: int, directory: Path) -> Published:
    """Publish from `count` processes at once and return the sum."""
    with Publishers(settings, order, count, directory) as publishers:
        machine_before, server_before = bystanders.look(), broker.server_cpu_s()
        outcomes = publishers.go()
        server_after, machine_after = broker.server_cpu_s(), bystanders.look()
    sent = sum(outcome.sent for outcome in outcomes)
    took_ns = max(outcome.last_ns for outcome in outcomes) - min(outcome.first_ns for outcome in outcomes)
    client_s = sum(outcome.cpu_s for outcome in outcomes)
    server_s = None if server_before is None or server_after is None else server_after - server_before
    return Published(
        sent=sent,
        per_s=sent / (took_ns / 1e9),
        client_cpu_ms=client_s * 1e6 / sent,
        server_cpu_ms=None if server_s is None else server_s * 1e6 / sent,
        others_percent=bystanders.share(machine_before, machine_after, client_s + (server_s or 0.0)),
    )


def tail(path: Path, lines: int = 15) -> str:
    """Return the end of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
