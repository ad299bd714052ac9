"""The process that sends tasks, so that its processor time can be told: `python -m …speed.sender DESCRIPTOR`.

It is told what to do by lines of JSON on its standard input, and answers each by one on the descriptor: what
an application prints goes to the standard output, and disturbs nobody. See `client` for the other end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import chord

from celery_postgres.compare.address import Address
from celery_postgres.compare.failure import worded
from celery_postgres.compare.probe import application
from celery_postgres.compare.request import Call
from celery_postgres.compare.transfer import transferred

from .workload import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celery import Celery


class UnableError(Exception):
    """Something cannot be measured with this contender or this task; says why."""


@dataclass(frozen=True)
class Sender:
    """An application and the calls that it sends, by the key of their workload."""

    app: Celery
    workloads: dict[str, list[Call]]
    timeout_s: float

    def publish(self, workload: str, count: int, seconds: float) -> dict[str, Any]:
        """So many as fast as one process can, but for no longer than that."""
        clock, ids = time.monotonic, []
        turns = self._sends(self.workloads[workload])
        cpu_s, begin = time.process_time(), clock()
        deadline = now = begin + seconds
        for _ in range(count):
            ids.append(next(turns)().id)
            now = clock()
            if now >= deadline:
                break
        return {"ids": ids, "took_s": now - begin, "cpu_s": time.process_time() - cpu_s}

    def pace(self, workload: str, count: int, seconds: float) -> dict[str, Any]:
        """So many, spread over that time; when each was sent, before the call."""
        turns = self._sends(self.workloads[workload])
        ids, sent_ns = [], []
        begin, interval_ns = time.monotonic_ns(), int(seconds * 1e9 / count)
        for number in range(count):
            send = next(turns)
            time.sleep(max(0, begin + number * interval_ns - time.monotonic_ns()) / 1e9)
            sent_ns.append(time.monotonic_ns())
            ids.append(send().id)
        return {"ids": ids, "sent_ns": sent_ns}

    def call(self, workload: str, seconds: float, pause_ms: float) -> dict[str, Any]:
        """`delay().get()`, one after the other: how long each took, in ms."""
        turns = self._sends(self._answered(workload))

        def act() -> None:
            next(turns)().get(timeout=self.timeout_s)

        return {"took_ms": self._timed(act, seconds, pause_ms, warm_up=3)}

    def chord(self, workload: str, size: int, body: str, seconds: float) -> dict[str, Any]:
        """Chords one after the other, each to the result of its body."""
        calls = self._answered(workload)
        try:
            self.app.backend.ensure_chords_allowed()
        except NotImplementedError as error:
            raise UnableError(f"{self.app.conf.result_backend} has no chords") from error
        turns = in_turns([call.weight for call in calls])

        def act() -> None:
            header = [self._signature(calls[next(turns)]) for _ in range(size)]
            chord(header, app=self.app)(self.app.signature(body)).get(timeout=self.timeout_s)

        return {"took_ms": self._timed(act, seconds, 0.0, warm_up=0)}

    def _timed(self, act: Callable[[], None], seconds: float, pause_ms: float, warm_up: int) -> list[float]:
        """At least once, and until the time is up."""
        for _ in range(warm_up):
            act()
        took_ms = []
        deadline = time.monotonic() + seconds
        while True:
            begin = time.monotonic_ns()
            act()
            took_ms.append((time.monotonic_ns() - begin) / 1e6)
            if time.monotonic() >= deadline:
                return took_ms
            time.sleep(pause_ms / 1000)

    def _sends(self, calls: Sequence[Call]) -> Iterator[Callable[[], Any]]:
        sends = [self._send(call) for call in calls]
        for index in in_turns([call.weight for call in calls]):
            yield sends[index]

    def _send(self, call: Call) -> Callable[[], Any]:
        task = self.app.tasks.get(call.task)
        if task is not None:
            return partial(task.delay, *call.args, **call.kwargs)
        return partial(self.app.send_task, call.task, call.args, call.kwargs, **call.options)

    def _signature(self, call: Call) -> Any:
        task = self.app.tasks.get(call.task)
        options = {} if task is not None else dict(call.options)
        return self.app.signature(call.task, call.args, call.kwargs, options=options, immutable=True)

    def _answered(self, workload: str) -> list[Call]:
        """The calls whose results are kept."""
        kept = [call for call in self.workloads[workload] if not self._ignores(call)]
        if not kept:
            raise UnableError("the result of the task is ignored")
        return kept

    def _ignores(self, call: Call) -> bool:
        task = self.app.tasks.get(call.task)
        return bool(call.options.get("ignore_result") if task is None else task.ignore_result)


def main() -> None:
    """Answer until nobody asks any more."""
    address = Address.from_environment()
    with os.fdopen(int(sys.argv[1]), "w") as answers:

        def answer(**facts: Any) -> None:
            answers.write(json.dumps(facts) + "\n")
            answers.flush()

        told = json.loads(sys.stdin.readline())
        try:
            app = _application(address)
        except Exception as error:  # noqa: BLE001 - whatever the modules of an application do
            answer(error=_worded(error))
            return
        workloads = {key: [Call(**call) for call in calls] for key, calls in told["workloads"].items()}
        sender = Sender(app, workloads, told["timeout_s"])
        answer(reply_queue=app.thread_oid)
        for line in sys.stdin:
            order = json.loads(line)
            act = getattr(sender, order.pop("act"))
            try:
                answer(**act(**order))
            except UnableError as error:
                answer(unable=str(error))
            except Exception as error:  # noqa: BLE001 - the one who asked has to say it
                answer(error=_worded(error))


def _application(address: Address) -> Celery:
    if address.application is not None:
        return transferred(address.application, address.settings)
    app = application(address.settings, lambda _: None)
    app.finalize()
    return app


def _worded(error: Exception) -> str:
    return f"{type(error).__name__}: {worded(error)}"


if __name__ == "__main__":
    main()
