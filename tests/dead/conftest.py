"""A database in which tasks die at will, and a program that deals with them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import Celery
from click.testing import CliRunner
from kombu import Connection, Queue, pools
from psycopg.rows import dict_row

from celery_postgres import dsn
from celery_postgres.cli import main
from celery_postgres.connection import Database
from celery_postgres.dead import DeadLetters
from celery_postgres.options import Options
from celery_postgres.wakeup import Bell
from tests.fixtures.broker import broker, fresh_broker, pytest_configure, pytest_itemcollected
from tests.fixtures.worker import pytest_runtest_makereport, site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

__all__ = [
    "broker",
    "fresh_broker",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_runtest_makereport",
    "site",
]


class Cemetery:
    """One database, and the tasks that were sent to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = Celery("client", broker=url, set_as_current=False)
        self.database = psycopg.connect(url, autocommit=True, row_factory=dict_row)
        self.connection = Connection(f"{url}?keep_rejected=true")
        self.channel = self.connection.channel()

    def declare(self, name: str, **properties: Any) -> None:
        Queue(name, routing_key=name, **properties)(self.channel).declare()

    def send(self, *args: Any, queue: str = "mail", name: str = "shop.greet", **options: Any) -> str:
        """Publish a task; its id."""
        self.declare(queue)
        task_id: str = self.app.send_task(name, args, queue=queue, **options).id
        return task_id

    def kill(self, *args: Any, queue: str = "mail", **options: Any) -> str:
        """Publish a task and have it rejected; its id."""
        task_id = self.send(*args, queue=queue, **options)
        self.reject(queue)
        return task_id

    def reject(self, queue: str = "mail") -> None:
        message = self.channel.basic_get(queue)
        assert message is not None
        message.reject()
        self.channel.connection.intake.flush()

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self.database.execute(query.encode(), values).fetchall()

    def dead(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM celery.dead_letter x JOIN celery.message m ON m.id = x.message_id")

    def ready(self) -> list[dict[str, Any]]:
        return self.rows(
            "SELECT r.*, q.name AS queue, m.*, r.priority AS ready_priority FROM celery.ready r"
            " JOIN celery.message m ON m.id = r.message_id LEFT JOIN celery.queue q ON q.id = r.queue_id"
            " ORDER BY r.message_id"
        )

    def state(self, task_id: str) -> str | None:
        found = self.rows("SELECT state FROM celery.job WHERE id = %s", task_id)
        return found[0]["state"] if found else None

    @contextmanager
    def letters(self) -> Iterator[DeadLetters]:
        session, _ = Database(dsn.parse(self.url), Options()).open()
        try:
            yield DeadLetters(session, 10, Bell("celery"))
        finally:
            session.close()

    def run(self, *arguments: str) -> Result:
        """Run `celery-postgres dead …` in this process."""
        return CliRunner().invoke(main, ["--url", self.url, "dead", *arguments])

    def answer(self, *arguments: str) -> Any:
        """The JSON document that it prints."""
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def close(self) -> None:
        """Leave the database as it was: setting it up anew takes longer than most tests."""
        self.channel.close()
        self.connection.release()
        self.app.close()
        pools.reset()
        self.database.execute(
            "TRUNCATE celery.message, celery.ready, celery.unacked, celery.delayed, celery.dead_letter"
        )
        self.database.execute("DELETE FROM celery.queue")
        self.database.close()


@pytest.fixture
def cemetery(module_database_url: str) -> Iterator[Cemetery]:
    made = Cemetery(module_database_url)
    yield made
    made.close()
