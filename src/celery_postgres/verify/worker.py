"""A real `celery worker` in processes of its own, with its log in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Worker:
    """Leads a process group of its own, so that a signal from the terminal reaches us alone.

    It ends with us, also when we are killed: its standard input is a pipe that we hold, and `hosted`, the
    module of its application, calls `end_with_the_owner`.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        *arguments: str,
        hosted: str,
        variables: Mapping[str, str],
        own: bool,
    ) -> None:
        """`variables` are its environment beside ours, `own` tells the user's application from the probe.

        The log's folder is removed in the end, and with it what a killed worker leaves in TMPDIR.
        """
        self.name = name
        self.log = log
        self.arguments = ("worker", "-n", name, "-l", "INFO", *arguments)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", hosted, *self.arguments],
                # An application is found where the user stands; the probe needs nothing from there, and a
                # file `celery.py` would be taken for Celery.
                cwd=None if own else log.parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **variables, "TMPDIR": str(log.parent)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The main process; the processes of its pool are its children."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def terminate(self) -> None:
        """Ask for a warm shutdown."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """End it with all that it started, by SIGKILL, and wait for that."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all of them are gone already
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
