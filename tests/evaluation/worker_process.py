"""A real `celery worker` on the example, started as a user would start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.evaluation import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class WorkerProcess:
    """The process and its log. The log is what a test waits for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, *texts: str, count: int = 1, timeout_s: float = 60) -> list[str]:
        """The lines that hold all the texts, once there are `count` of them."""
        end = time.monotonic() + timeout_s
        with self._grown:
            while True:
                lines = [line for line in self.log if all(text in line for text in texts)]
                if len(lines) >= count:
                    return lines
                left = end - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    missing = f"{len(lines)} of {count} lines with {texts} in the worker's log:\n"
                    raise AssertionError(missing + "".join(self.log))
                self._grown.wait(left)

    def stop(self) -> None:
        """Warm shutdown, and a cold one for the whole group if that takes too long."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError("the worker did not stop:\n" + "".join(self.log)) from None
        finally:
            self._reader.join(30)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._grown:
                    self.log.append(line)
                    self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()


@contextmanager
def worker(queue: str, environment: Mapping[str, str]) -> Iterator[WorkerProcess]:
    """A worker of two processes on a queue of its own; it is ready when this yields."""
    arguments = ["-m", "celery", "-A", "evaluation.app", "worker", "-P", "prefork", "-c", "2", "-l", "INFO"]
    arguments += ["-Q", queue, "-n", f"{queue}@%h", "--without-gossip", "--without-mingle"]
    # Neither BROKER_URL nor anything else of the tests' own surroundings reaches the worker.
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    process = WorkerProcess(
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**inherited, "PYTHONPATH": str(ROOT / "examples"), "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    )
    try:
        process.wait_for(" ready.")
        yield process
    finally:
        process.stop()
