"""An application whose tasks return something, for workers and for whoever waits for them.

SUMS_URL is broker and result backend, SUMS_BACKEND another backend, SUMS_SETTINGS Celery settings as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from celery import Celery, group


class OwnError(Exception):
    """An exception of the application."""


def make_app(url: str, backend: str | None = None, **settings: Any) -> Celery:
    """A new application over a broker that is its result backend too, unless another is given."""
    made = Celery("sums", broker=url, backend=backend or url, set_as_current=False)
    made.conf.update(broker_connection_retry_on_startup=True, **settings)
    return made


app = make_app(
    os.environ.get("SUMS_URL", "memory://"),
    os.environ.get("SUMS_BACKEND"),
    **json.loads(os.environ.get("SUMS_SETTINGS", "{}")),
)


@app.task
def add(x: Any, y: Any) -> Any:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def gather(values: list[Any]) -> list[Any]:
    return values


@app.task
def give(value: Any) -> Any:
    return value


@app.task
def give_large(size: int) -> str:
    return "x" * size


@app.task
def fail(text: str) -> None:
    raise OwnError(text)


@app.task
def fail_on_total(_: list[int], text: str) -> None:
    raise OwnError(text)


@app.task(bind=True, max_retries=2)
def retry_twice(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.2)
    return int(self.request.retries)


@app.task(bind=True)
def report_progress(self: Any, steps: int) -> int:
    for step in range(steps):
        self.update_state(state="PROGRESS", meta={"step": step})
    return steps


@app.task(bind=True)
def replace_by_sum(self: Any, numbers: list[int]) -> Any:
    raise self.replace(group(add.s(n, n) for n in numbers) | total.s())


@app.task(bind=True)
def bring_another(self: Any, x: int) -> int:
    """Let one more part join the chord that this one belongs to."""
    self.add_to_chord(add.s(x, 100))
    return x


@app.task
def append_line(path: str, line: str) -> str:
    with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(line + "\n")
    return line


@app.task
def append_size(values: list[Any], path: str) -> int:
    append_line(path, str(len(values)))
    return len(values)


@app.task(acks_late=True, reject_on_worker_lost=True)
def give_late(value: Any) -> Any:
    time.sleep(0.01)
    return value


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def append_sum(self: Any, numbers: list[int], path: str, name: str) -> int:
    """Leave a line: name, whether this delivery is another one, the sum."""
    again = "again" if self.request.delivery_info["redelivered"] else "first"
    append_line(path, f"{name} {again} {sum(numbers)}")
    return sum(numbers)


@app.task
def append_error(request: Any, exc: BaseException, traceback: Any, path: str) -> None:
    append_line(path, f"{type(exc).__name__}: {exc}")


@app.task(acks_late=True, reject_on_worker_lost=True)
def sleep_and_give(seconds: float, value: Any) -> Any:
    time.sleep(seconds)
    return value


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def append_and_die_once(self: Any, path: str) -> str:
    append_line(path, "ran")
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"
