"""The probe: a small Celery application whose tasks do what the checks want to see."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery import Celery

if TYPE_CHECKING:
    from .address import Address

QUEUE = "verify"

#: How long the task `hold` would take if nobody killed its worker.
_HOLD = 300.0


class ProbeError(Exception):
    """What the probe's tasks fail with."""


def application(address: Address) -> Celery:
    """The probe on the schema of the address; the same in the worker and in whoever sends it tasks."""
    app = Celery("celery-postgres-verify", set_as_current=False)
    app.conf.update(
        broker_url=address.url,
        broker_transport_options=address.options,
        broker_connection_retry_on_startup=False,
        broker_connection_retry=False,
        task_default_queue=QUEUE,
        result_backend=address.url,
        result_backend_transport_options=address.options,
        task_ignore_result=True,
        worker_send_task_events=False,
    )
    _add_tasks(app)
    return app


def _add_tasks(app: Celery) -> None:
    # Not shared, or every other application of this process would get them, too.
    @app.task(name="verify.echo", shared=False)
    def echo(value: Any) -> Any:
        """Give back what came."""
        return value

    @app.task(name="verify.add", shared=False, ignore_result=False)
    def add(numbers: list[int]) -> int:
        """The sum; ProbeError without a number."""
        if not numbers:
            raise ProbeError("nothing to add")
        return sum(numbers)

    @app.task(name="verify.linger", shared=False)
    def linger(seconds: float) -> None:
        """Take a while."""
        time.sleep(seconds)

    @app.task(name="verify.flaky", shared=False, bind=True)
    def flaky(self: Any, failures: int, delay: float) -> int:
        """Fail so many times before it succeeds; the number of runs."""
        if self.request.retries < failures:
            raise self.retry(exc=ProbeError("not yet"), countdown=delay, max_retries=failures)
        return int(self.request.retries) + 1

    @app.task(name="verify.broken", shared=False, bind=True)
    def broken(self: Any, max_retries: int, delay: float) -> None:
        """Fail always."""
        try:
            raise ProbeError("broken on purpose")
        except ProbeError as exc:
            raise self.retry(exc=exc, countdown=delay, max_retries=max_retries) from exc

    @app.task(name="verify.hold", shared=False, bind=True, acks_late=True, reject_on_worker_lost=True)
    def hold(self: Any) -> None:
        """Outlive the worker that runs it first; end at once for the next one."""
        if not self.request.delivery_info.get("redelivered"):
            time.sleep(_HOLD)
