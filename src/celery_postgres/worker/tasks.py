"""When a task's message is acknowledged, and which tasks a worker that ends still waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .replacing import is_ours, replace

if TYPE_CHECKING:
    from collections.abc import Callable


def adapt() -> None:
    replace("celery.worker.consumer.consumer", "Consumer", "call_soon_ack", _acknowledge_before_solo_tasks)
    replace("celery.concurrency.asynpool", "AsynPool", "flush", _keep_handed_over)


def _acknowledge_before_solo_tasks(original: Callable[..., Any]) -> Callable[..., Any]:
    """Celery leaves an early acknowledgement to the loop's next step, and a solo task runs inside the loop.

    So it would come after the task, and a worker that is killed meanwhile would find the task again.
    """

    def call_soon_ack(self: Any, settle: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if is_ours(self.connection) and self.hub and type(self.pool).__module__ == "celery.concurrency.solo":
            return settle(*arguments, **options)
        return original(self, settle, *arguments, **options)

    return call_soon_ack


def _keep_handed_over(original: Callable[[Any], None]) -> Callable[[Any], None]:
    """When a worker ends, Celery's prefork pool forgets the tasks of which no child has said that it began.

    A child that was handed one runs it all the same. Nobody reads then that it is done: the child waits for
    that for half a minute, the worker for the child, and a late acknowledgement never comes.
    """

    def flush(self: Any) -> None:
        kept = [job for job in tuple(self._cache.values()) if _is_handed_over(job, self)]
        for job in kept:
            job.discard = _stay
        try:
            original(self)
        finally:
            for job in kept:
                del job.discard
                _forget_unless_alive(job, self)

    return flush


def _is_handed_over(job: Any, pool: Any) -> bool:
    """Whether a child that lives has all of it."""
    writer = getattr(job, "_writer", lambda: None)()  # a weak reference
    child = getattr(job, "_write_to", None)
    begun = child is not None and child._is_alive() and job not in pool.outbound_buffer  # noqa: SLF001
    return begun and writer not in pool._active_writers  # noqa: SLF001


def _forget_unless_alive(job: Any, pool: Any) -> None:
    """A job whose child has died meanwhile is its broker's again; that of another one keeps it busy."""
    if job._accepted:  # noqa: SLF001
        return
    if job._write_to._is_alive():  # noqa: SLF001
        pool._busy_workers.add(job._write_to.inqW_fd)  # noqa: SLF001
    else:
        job.discard()


def _stay() -> None:
    """In place of a job's `discard`."""
