"""The probe: a small Celery application whose tasks do what is to be measured and seen."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery

if TYPE_CHECKING:
    from collections.abc import Callable

#: How often a task that waits for a file looks for it.
_LOOK_S = 0.01


class ProbeError(Exception):
    """What the probe's tasks fail with."""


def client(settings: dict[str, Any]) -> Celery:
    """An application that sends tasks by name, and waits for their results."""
    app = Celery("celery-postgres-compare", set_as_current=False)
    app.conf.update(settings)
    return app


def application(settings: dict[str, Any], started: Callable[[str], None]) -> Celery:
    """What a worker runs. `started` is told the id of each task that begins, from within it."""
    app = client({"task_ignore_result": True, **settings})

    def begun(task: Any) -> None:
        started(task.request.id)

    # Not shared, or every other application of this process would get them, too.
    @app.task(name="compare.noop", shared=False, bind=True)
    def noop(self: Any, *_: Any) -> None:
        """Do nothing."""
        begun(self)

    @app.task(name="compare.pause", shared=False, bind=True)
    def pause(self: Any, milliseconds: float) -> None:
        """Wait, as for a reply from elsewhere."""
        begun(self)
        time.sleep(milliseconds / 1000)

    @app.task(name="compare.echo", shared=False, bind=True, ignore_result=False)
    def echo(self: Any, value: Any) -> Any:
        """Give back what came."""
        begun(self)
        return value

    @app.task(name="compare.total", shared=False, bind=True, ignore_result=False)
    def total(self: Any, numbers: list[float]) -> float:
        """The sum: the body of a chord whose header is of `echo`."""
        begun(self)
        return sum(numbers)

    @app.task(name="compare.hold", shared=False, bind=True)
    def hold(self: Any, path: str, seconds: float = 300.0) -> None:
        """Go on until there is a file at this path, but no longer than so many seconds."""
        begun(self)
        deadline = time.monotonic() + seconds
        while not Path(path).exists() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)

    @app.task(name="compare.flaky", shared=False, bind=True, ignore_result=False)
    def flaky(self: Any, failures: int, delay_s: float = 0.0) -> int:
        """Fail so many times before it succeeds; the number of runs."""
        begun(self)
        if self.request.retries < failures:
            raise self.retry(exc=ProbeError("not yet"), countdown=delay_s, max_retries=failures)
        return int(self.request.retries) + 1

    @app.task(name="compare.fail", shared=False, bind=True, ignore_result=False)
    def fail(self: Any) -> None:
        """Fail."""
        begun(self)
        raise ProbeError("broken on purpose")

    return app
