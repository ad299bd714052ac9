"""A process that publishes, and writes down of each message what it was told about it.

python -m tests.reliability.chaos.publisher NAME SEED RATE STRETCH FIRST
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from celery import chord
from kombu.exceptions import OperationalError

from celery_postgres.errors import DatabaseRejected

from .app import again, answer, total, work
from .journal import ERROR, INTENT, OK, UNKNOWN, Journal

DIRECTORY = Path(os.environ["CHAOS_DIRECTORY"])
HOLD = DIRECTORY / "hold"
"""While this file is there nobody publishes: the workers are too far behind."""

LENGTHS_S = (0.0,) * 12 + (0.01,) * 6 + (0.1, 1.0)
LONGEST_S = 0.5
PAUSE_AFTER_ERROR_S = 0.2
PARTS = 3
POLICY = {"max_retries": 3, "interval_start": 0.05, "interval_step": 0.2, "interval_max": 0.5}

_stopped = threading.Event()


class Publisher:
    def __init__(self, name: str, seed: int, rate: float, stretch: float, first: int) -> None:
        self._name = name
        self._random = random.Random(f"{name} {seed} {first}")
        self._rate = rate
        self._stretch = stretch
        self._number = first
        self._journal = Journal(DIRECTORY / f"published-{name}")

    def run(self) -> None:
        due = time.monotonic()
        while not _stopped.is_set():
            if HOLD.exists():
                _stopped.wait(0.1)
                due = time.monotonic()
                continue
            due += self._one() / self._rate
            late = time.monotonic() - due
            if late < 0:
                _stopped.wait(-late)
            elif late > 1:
                due = time.monotonic()

    def _one(self) -> int:
        """Publish one thing; returns how many messages it takes."""
        kind = self._random.choices(
            ["work", "urgent", "later", "answer", "again", "chord"], [70, 8, 8, 8, 4, 2]
        )[0]
        seconds = self._random.choice(LENGTHS_S) * self._stretch
        if kind == "chord":
            ids = [self._new_id() for _ in range(PARTS + 1)]
            parts = [answer.si(n, 0).set(task_id=id_) for n, id_ in enumerate(ids[:-1])]
            body = total.s().set(task_id=ids[-1])
            self._publish(ids, kind, lambda: chord(parts)(body))
            return len(ids)
        id_ = self._new_id()
        options: dict[str, Any] = {"task_id": id_, "retry_policy": POLICY}
        if kind == "urgent":
            options["priority"] = self._random.randint(1, 9)
        if kind == "later":
            options["countdown"] = self._random.uniform(0.5, 3)
        if kind == "answer":
            self._publish(
                [id_], kind, lambda: answer.apply_async((self._number, min(seconds, LONGEST_S)), **options)
            )
        else:
            task = again if kind == "again" else work
            self._publish([id_], kind, lambda: task.apply_async((min(seconds, LONGEST_S),), **options))
        return 1

    def _new_id(self) -> str:
        self._number += 1
        return f"{self._name}-{self._number}"

    def _publish(self, ids: list[str], kind: str, send: Any) -> None:
        for id_ in ids:
            self._journal.write(INTENT, id_, kind)
        try:
            send()
        except OperationalError as error:
            # What the server has refused is not stored; a chord may be in parts.
            refused = isinstance(error.__cause__, DatabaseRejected) and len(ids) == 1
            self._settle(ids, ERROR if refused else UNKNOWN, repr(error))
            _stopped.wait(PAUSE_AFTER_ERROR_S)
        except DatabaseRejected as error:
            self._settle(ids, ERROR if len(ids) == 1 else UNKNOWN, repr(error))
            _stopped.wait(PAUSE_AFTER_ERROR_S)
        else:
            self._settle(ids, OK)

    def _settle(self, ids: list[str], event: str, *more: object) -> None:
        for id_ in ids:
            self._journal.write(
                event, id_, *(str(word).replace("\t", " ").replace("\n", " ") for word in more)
            )


def main(name: str, seed: str, rate: str, stretch: str, first: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stopped.set())
    Publisher(name, int(seed), float(rate), float(stretch), int(first)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
