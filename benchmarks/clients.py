"""The observer's end of the processes that call tasks: start together, hear what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import processes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from typing_extensions import Self

    from benchmarks.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


class MeasurementError(Exception):
    """A child process did not do what was asked; the message holds the end of its log."""


class Clients:
    """Processes of one module that follows orders (`client.follow`): warmed up on entry, ended on exit."""

    def __init__(
        self, module: str, settings: Settings, order: DataclassInstance, processes_count: int, directory: Path
    ) -> None:
        self._module = module
        self._settings = settings
        self._order = order
        self._count = processes_count
        self._log_path = directory / f"{module}.log"
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        with self._log_path.open("wb") as log:
            for _ in range(self._count):
                self._children.append(
                    subprocess.Popen(
                        [sys.executable, "-m", self._module, json.dumps(asdict(self._order))],
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

    def go(self) -> list[dict[str, Any]]:
        """Let all of them begin, and return what each says at its end."""
        for child in self._children:
            assert child.stdin is not None
            child.stdin.write(b"go\n")
            child.stdin.flush()
        return [json.loads(self._line(child)) for child in self._children]

    def _line(self, child: subprocess.Popen[bytes]) -> bytes:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            child.wait()
            raise MeasurementError(f"{self._module} ended with {child.returncode}:\n{tail(self._log_path)}")
        return line


def tail(path: Path, lines: int = 15) -> str:
    """Return the end of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
