"""The observer's end of the process that sends tasks."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from celery_postgres.compare.arena import PUBLISHING
from celery_postgres.compare.failure import Failure

if TYPE_CHECKING:
    from typing_extensions import Self

    from celery_postgres.compare.arena import Arena

    from .workload import Workload, Workloads

_MODULE = "celery_postgres.compare.speed.sender"
_LOOK_S = 1.0
_TAIL_LINES = 12


@dataclass(frozen=True)
class Published:
    """Tasks that were accepted: their ids in order, and what that took."""

    ids: list[str]
    took_s: float
    cpu_s: float


@dataclass(frozen=True)
class Answered:
    """How long each call took, in ms; or why there is nothing to tell."""

    took_ms: list[float]
    unable: str = ""


class Client:
    """One process for all rounds of one contender; use as a context manager.

    Like a worker, it leads a process group of its own, and ends when its standard input does. All methods
    raise Failure.
    """

    def __init__(self, arena: Arena, workloads: Workloads) -> None:
        self._arena = arena
        self._workloads = workloads
        self._log = arena.folder / "sender.log"
        self._timeout_s = arena.request.timeout_s

    def __enter__(self) -> Self:
        arena = self._arena
        settings = {**arena.address.settings, **PUBLISHING}
        address = replace(arena.address, settings=settings, worker=0)
        own = arena.request.application is not None
        self._answers, answering = os.pipe()
        self._unread = b""
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", _MODULE, str(answering)],
                    cwd=None if own else arena.folder,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **address.environment()},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[answering],
                    start_new_session=True,
                )
        finally:
            os.close(answering)
        self._tell(
            workloads={w.key: [asdict(call) for call in w.calls] for w in self._workloads.all},
            timeout_s=self._timeout_s,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it. Harmless if that was done."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself
        self._process.wait()
        os.close(self._answers)
        self._process.stdin.close()

    def wait_ready(self) -> None:
        """Until it takes orders; it may be left alone to start before."""
        said = self._answer(self._timeout_s)
        if "error" in said:
            name = self._arena.request.application
            raise Failure(
                f"the application {name} cannot be imported ({said['error']}): run this in the folder and "
                f"with the variables with which `celery -A {name} report` works"
            )
        # What it makes for the answers to `rpc://` bears a name that nobody else can know.
        self._arena.place.reply_queues.add(said["reply_queue"])

    def publish(self, workload: Workload, count: int, seconds: float) -> Published:
        """See `sender.Sender.publish`."""
        said = self._ordered(act="publish", workload=workload.key, count=count, seconds=seconds)
        return Published(**said)

    def pace(self, workload: Workload, count: int, interval_ms: float) -> dict[str, int]:
        """When each task was sent, by its id (monotonic ns)."""
        seconds = count * interval_ms / 1000
        said = self._ordered(act="pace", workload=workload.key, count=count, seconds=seconds)
        return dict(zip(said["ids"], said["sent_ns"], strict=True))

    def call(self, workload: Workload, seconds: float, pause_ms: float) -> Answered:
        """`delay().get()` for so long."""
        said = self._ordered(act="call", workload=workload.key, seconds=seconds, pause_ms=pause_ms)
        return Answered(said.get("took_ms", []), said.get("unable", ""))

    def chord(self, workload: Workload, size: int, body: str, seconds: float) -> Answered:
        """Chords for so long, at least one."""
        said = self._ordered(act="chord", workload=workload.key, size=size, body=body, seconds=seconds)
        return Answered(said.get("took_ms", []), said.get("unable", ""))

    def _ordered(self, **order: Any) -> dict[str, Any]:
        self._tell(**order)
        # It waits for an answer several times at the most.
        said = self._answer(order["seconds"] + 4 * self._timeout_s)
        if "error" in said:
            self._arena.raise_failed_tasks()
            raise Failure(
                f"the tasks could not be sent or answered ({said['error']}): look at the broker's log"
            )
        return said

    def _tell(self, **facts: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(facts).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and has no answer either

    def _answer(self, limit_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._unread:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Failure(
                    f"the process that sends tasks did not answer within {limit_s:.0f} s{self._wrote()}"
                    "on a slow machine give --timeout more"
                )
            if select.select([self._answers], [], [], min(left_s, _LOOK_S))[0]:
                more = os.read(self._answers, 1 << 20)
                if not more:
                    code = self._process.wait()
                    raise Failure(
                        f"the process that sends tasks ended with exit code {code}{self._wrote()}"
                        "remove what it complains of, and run this again"
                    )
                self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def _wrote(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return ", and wrote\n" + "\n".join(lines) + "\n" if lines else ": "
