"""Where a message is that waits for its time: with the broker, or in the memory of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from celery_postgres.verify.worker import Worker


def received(worker: Worker, ids: Collection[str]) -> set[str]:
    """Those of these tasks that the worker has been given so far.

    By its log and not by `inspect scheduled`, which over PostgreSQL names what the database holds, too.
    """
    log = worker.log.read_text(errors="replace")
    return {id_ for id_ in ids if f"[{id_}] received" in log}
