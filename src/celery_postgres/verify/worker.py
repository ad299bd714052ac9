"""A real `celery worker` in processes of its own, with its log in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .address import Address

HOSTED = "celery_postgres.verify.hosted"


def environment(address: Address) -> dict[str, str]:
    """What a process of the verification needs to know, beside what we know ourselves."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **address.environment()}


class Worker:
    """Leads a process group of its own, so that a signal from the terminal reaches us alone.

    It ends with us, also when we are killed: its standard input is a pipe that we hold.
    """

    def __init__(self, address: Address, number: int, folder: Path, *arguments: str) -> None:
        self.name = f"verify{number}@{os.uname().nodename}"
        self.log = folder / f"worker{number}.log"
        self.arguments = ("worker", "-n", self.name, "-c", "1", "-l", "INFO", *arguments)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", HOSTED, *self.arguments],
                # An application is found where the user stands; the probe needs nothing from there, and a
                # file `celery.py` would be taken for Celery. What the probe leaves in TMPDIR goes with ours.
                cwd=None if address.application else folder,
                env=environment(address) | ({} if address.application else {"TMPDIR": str(folder)}),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

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
