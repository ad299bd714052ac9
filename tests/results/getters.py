"""Who waits for a result, who stores it, and how one sees that somebody waits."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
from celery import states
from celery.result import AsyncResult

from tests.fixtures.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from celery import Celery


class Getter(threading.Thread):
    """Waits for one result in a thread of its own."""

    def __init__(self, app: Celery, task_id: str | UUID, *, start: bool = True, **options: Any) -> None:
        super().__init__(daemon=True)
        self.result: Any = AsyncResult(task_id, app=app)
        self.options = {"timeout": PATIENCE_S, **options}
        self.value: Any = None
        if start:
            self.start()

    def run(self) -> None:
        try:
            self.value = self.result.get(**self.options)
        except Exception as exc:  # noqa: BLE001
            self.value = exc
        self.ended = time.monotonic()

    def outcome(self) -> Any:
        self.join(PATIENCE_S + 10)
        assert not self.is_alive()
        return self.value


def waits(url: str, number: int = 1) -> Callable[[], bool]:
    """Whether so many sessions hold the lock of a bucket of results."""

    def look() -> bool:
        with psycopg.connect(url) as connection:
            rows = connection.execute(
                "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchone()
        return rows is not None and rows[0] >= number

    return look


def store_elsewhere(new_app: Callable[..., Celery], url: str, task_id: str, value: Any) -> None:
    new_app(url).backend.store_result(task_id, value, states.SUCCESS)
