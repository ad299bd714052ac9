"""The gradual cut-over of a running application from another broker, and the way back.

Both brokers run, each with a worker of the unchanged application. A flag says which evaluations go to
PostgreSQL: none, those of some tasks, a percentage of all, or all of them. Setting it back is the rollback.
"""

from __future__ import annotations

import os
import secrets
import time
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from celery import Celery
from evaluation.database import create_tables, engine_for, sessions_for
from evaluation.load import load
from kombu import Exchange, Queue
from worker_process import WorkerProcess

from . import site
from .app import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from celery.result import AsyncResult


@dataclass(frozen=True)
class Flag:
    """How far the cut-over has come. An environment variable here, a row or a feature flag elsewhere."""

    tasks: frozenset[str] = frozenset()
    """Tasks that have moved as a whole."""
    percentage: int = 0
    """How many of a hundred of the others go to PostgreSQL."""

    @classmethod
    def from_environment(cls) -> Flag:
        tasks = os.environ.get("CUTOVER_TASKS", "").split(",")
        return cls(frozenset(filter(None, tasks)), int(os.environ.get("CUTOVER_PERCENTAGE", "0")))

    def moved(self, task: str, key: str) -> bool:
        """Whether this one goes to PostgreSQL. The same key goes the same way in every process, and one
        that has moved stays moved while the percentage grows: so Python's own hash() will not do."""
        return task in self.tasks or zlib.crc32(key.encode()) % 100 < self.percentage


class Sender:
    """Sends each task to one of two brokers, as the flag says."""

    def __init__(self, legacy_url: str, new_url: str, flag: Flag, queue: str = "celery") -> None:
        self.flag = flag
        self._queue = queue
        self._legacy = Celery("legacy", broker=legacy_url, set_as_current=False)
        self._new = Celery("new", broker=new_url, set_as_current=False)
        self._new.conf.broker_transport_options = {"schema": SCHEMA}

    def send(self, task: str, key: str, *arguments: Any) -> AsyncResult[Any]:
        """Send it under an id made of task and key, by which the database knows which way it went."""
        app = self._new if self.flag.moved(task, key) else self._legacy
        return app.send_task(task, arguments, task_id=f"{task}:{key}", queue=self._queue, ignore_result=True)

    def legacy_waiting(self) -> int:
        """How many messages wait in the old broker."""
        with self._legacy.connection_for_read() as broker:
            count: int = broker.default_channel.queue_declare(self._queue).message_count
            return count

    def forget_queue(self) -> None:
        """Delete the queue from both brokers, with its binding, which Redis finds where it was declared."""
        for app in (self._legacy, self._new):
            with app.connection_for_write() as broker:
                queue = Queue(self._queue, Exchange(self._queue), self._queue)(broker.default_channel)
                queue.declare()
                queue.delete()

    def close(self) -> None:
        self._legacy.close()
        self._new.close()


#: Evaluations that are open, and not on their way through PostgreSQL. At 0 the old broker has no part in it.
LEGACY_OPEN = """
SELECT count(*)
  FROM app.evaluation e
 WHERE e.status IN ('PENDING', 'RUNNING')
   AND NOT EXISTS (SELECT FROM poc.job j WHERE j.id = 'evaluation.evaluate:' || e.id)"""

_STAGES = (
    ("as it was: everything to the old broker", Flag()),
    ("by task: imports to PostgreSQL", Flag(frozenset({"evaluation.import_document"}))),
    ("by percentage: half of the evaluations", Flag(percentage=50)),
    ("rollback: everything to the old broker again", Flag()),
    ("all of them", Flag(percentage=100)),
)


def run(legacy_url: str) -> int:
    """Go through the stages with real evaluations and a worker at each broker. 0 if all were completed."""
    site.set_up()
    create_tables(engine_for())
    # A queue of its own, so that whatever else is in the old broker stays out of it.
    queue = f"cutover-{secrets.token_hex(4)}"
    new_url = f"{site.url()}{'&' if '?' in site.url() else '?'}schema={SCHEMA}"
    worker = ("--concurrency", "1", "--loglevel", "INFO", "--without-mingle", "-Q", queue)
    with (
        closing(Sender(legacy_url, site.url(), Flag(), queue)) as sender,
        site.database() as connection,
        WorkerProcess("evaluation.app", *worker, "-n", "old@%h", env={"BROKER_URL": legacy_url}) as old,
        WorkerProcess("evaluation.app", *worker, "-n", "new@%h", env={"BROKER_URL": new_url}) as new,
    ):
        for process in (old, new):
            process.wait_ready(site.PATIENCE_S)
        try:
            open_at_the_end = _stages(sender, connection)
        finally:
            sender.forget_queue()
    print(f"\nLegacy open: {open_at_the_end}" + ("; the old worker may stop" if not open_at_the_end else ""))
    return 1 if open_at_the_end else 0


def _stages(sender: Sender, connection: psycopg.Connection[Any]) -> int:
    for number, (name, sender.flag) in enumerate(_STAGES):
        with TemporaryDirectory() as folder:
            ids = load(sessions_for(engine_for()), _documents(Path(folder), number))
            print(f"\n{name}")
            for task, key, argument in _calls(Path(folder), ids):
                where = "PostgreSQL" if sender.flag.moved(task, key) else "old broker"
                print(f"  {task}:{key} -> {where}")
                sender.send(task, key, argument)
            _wait_until_done(sender, connection, ids)
    return site.count(connection, LEGACY_OPEN)


def _documents(folder: Path, stage: int) -> list[Path]:
    files = [folder / f"stage{stage}-{number}.md" for number in range(4)]
    for file in files:
        file.write_text(f"# {file.stem}\n\nThe text of the the document.\n", encoding="utf-8")
    return files


def _calls(folder: Path, ids: list[int]) -> Iterator[tuple[str, str, int | str]]:
    imported = min(folder.iterdir())
    yield "evaluation.import_document", imported.name, str(imported)
    for evaluation_id in ids:
        yield "evaluation.evaluate", str(evaluation_id), evaluation_id


def _wait_until_done(sender: Sender, connection: psycopg.Connection[Any], ids: list[int]) -> None:
    """Until every one is completed and no message is left; RuntimeError if that takes too long."""
    query = "SELECT count(*) FROM app.evaluation WHERE id = ANY (%s) AND status <> 'COMPLETED'"
    deadline = time.monotonic() + site.PATIENCE_S
    while True:
        row = connection.execute(query, (ids,)).fetchone()
        if row == (0,) and not sender.legacy_waiting() and not site.waiting(connection):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{row and row[0]} evaluations are not completed; are both workers alive?")
        time.sleep(0.05)
