"""A real `celery worker` in a process of its own, as the examples start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class WorkerProcess:
    """Runs from the project's folder, where celeryconfig.py is; keeps what the worker says."""

    def __init__(self, app: str, *arguments: str, env: dict[str, str]) -> None:
        self.command = ["celery", "-A", app, "worker", *arguments]
        path = os.pathsep.join([str(ROOT / "examples"), str(ROOT)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self.command],
            cwd=ROOT,
            env={**os.environ, **env, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._taken = 0
        self._ended = False
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._grown:
                self._lines.append(line.rstrip())
                self._grown.notify_all()
        with self._grown:
            self._ended = True  # nobody needs to wait any longer
            self._grown.notify_all()

    @property
    def log(self) -> str:
        return "\n".join(self._lines)

    def take(self, prefix: str) -> list[str]:
        """The lines with a prefix since the last call."""
        new, self._taken = self._lines[self._taken :], len(self._lines)
        return [line for line in new if line.startswith(prefix)]

    def wait_line(self, text: str, timeout_s: float) -> None:
        """Until a line holds the text. Raises RuntimeError with all that was said if none does in time."""
        with self._grown:

            def said() -> bool:
                return any(text in line for line in self._lines)

            self._grown.wait_for(lambda: self._ended or said(), timeout_s)
            if not said():
                raise RuntimeError(f"the worker did not say {text!r}:\n{self.log}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, timeout_s: float) -> None:
        """Raises RuntimeError with the worker's own words when it does not come up in time."""
        self.wait_line(" ready.", timeout_s)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, timeout_s: float = 30.0) -> int:
        """Warm shutdown: finishes what it runs, gives back the rest. Returns the exit code."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(5)
        return code

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
