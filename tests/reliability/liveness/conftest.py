"""A site over a database of the test's own, and a look at who does what in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.fixtures.broker import Broker
from tests.fixtures.record import Record
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import Site, Worker, pytest_runtest_makereport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["pytest_runtest_makereport"]

LATE = {"task_acks_late": True, "task_reject_on_worker_lost": True, "worker_prefetch_multiplier": 1}


class Watched(Site):
    """Workers with late acknowledgement, and the database behind them."""

    def query(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.broker.url, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def sweeping(self, **settings: Any) -> Worker:
        """A worker that sweeps."""
        worker = self.worker("-Q", "celery", **settings)
        find = "SELECT node FROM celery.epoch e JOIN celery.consumer c ON c.id = e.sweeper"
        eventually(lambda: self.query(find) == [(worker.nodename,)], what="a sweeper")
        return worker

    def standing_by(self, **settings: Any) -> Worker:
        """A worker that does not sweep, since another one does."""
        worker = self.worker("-Q", "celery", **settings)
        session = f"""SELECT 1 FROM pg_locks l JOIN celery.consumer c
            ON (l.classid::bigint << 32 | l.objid::bigint) = c.beat_key WHERE c.node = '{worker.nodename}'"""
        eventually(lambda: self.query(session) == [(1,)], what="its second session")
        return worker

    def give(self, holder: Worker, seconds: float = 120) -> str:
        """A task that sleeps on this worker; whoever else takes it first gives it back by ending."""
        while True:
            task = self.send("sleep_on", holder.nodename, seconds)
            if self.record.wait_for([task])[-1].hostname == holder.nodename:
                return task


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    made = Watched(Broker(database_url), Record(tmp_path / "record"), LATE)
    yield made
    made.close()
