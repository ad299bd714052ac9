"""Where a verification takes place: its schema, its workers, and who sends them tasks."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kombu import pools
from psycopg import sql

from . import catalog
from .address import HOSTED, Address
from .ground import Ground
from .notes import Note, Notes
from .outcome import Fault
from .probe import QUEUE, application
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from celery import Celery
    from typing_extensions import LiteralString

    from celery_postgres.connection import Server

    from .request import Request

_LOOK_EVERY = 0.005

# For a worker without the chatter that matters to many workers alone.
_QUIET = ("--without-mingle", "--without-gossip", "--without-heartbeat")


class Stage:
    """Opens nothing by itself; `close` leaves nothing, unless the schema is to be kept."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.schema = request.prepared_schema or f"{catalog.PREFIX}{os.getpid()}_{secrets.token_hex(3)}"
        self.ground = Ground(request.dsn, self.schema)
        self.folder = Path(tempfile.mkdtemp(prefix="celery-postgres-verify-"))
        self.notes = Notes(self.folder / "notes")
        self.address = Address(
            request.url, {**request.given, "schema": self.schema}, self.notes.path, application=None
        )
        self.client: Celery = application(self.address)
        self.server: Server | None = None
        self.before: dict[tuple[str, str], str] = {}
        """What the database held outside our schema before we began, or after a task of the user's own."""
        self.workers: list[Worker] = []

    # -- the database -----------------------------------------------------------------------------------

    def connect(self, server: Server) -> None:
        """Keep a session for looking at the database, and look at it once."""
        self.server = server
        self.ground.connect()
        self.before = self.objects()

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction on the session that looks at the database."""
        with self.ground.transaction() as connection:
            yield connection

    def objects(self) -> dict[tuple[str, str], str]:
        """What the database holds outside our schema."""
        with self.transaction() as connection:
            return catalog.objects(connection, outside=self.schema)

    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        """The rows of a query in which {s} stands for our schema."""
        with self.transaction() as connection:
            named = sql.SQL(query).format(s=sql.Identifier(self.schema))
            return connection.execute(named).fetchall()

    # -- workers and tasks ------------------------------------------------------------------------------

    def start_worker(self, *arguments: str, address: Address | None = None) -> Worker:
        """A worker of one process that may not be ready yet."""
        arguments = arguments or ("-Q", QUEUE)
        number = len(self.workers) + 1
        quiet = (*_QUIET, "--prefetch-multiplier", "1")
        address = address or self.address
        own = address.application is not None
        worker = Worker(
            f"verify{number}@{os.uname().nodename}",
            self.folder / f"worker{number}.log",
            *("-c", "1", *quiet, *arguments),
            hosted=HOSTED,
            variables=address.environment(),
            own=own,
        )
        self.workers.append(worker)
        return worker

    def wait_ready(self, worker: Worker) -> Note:
        """Its note that it consumes; `facts["tasks"]` are the tasks that it knows."""

        def ready() -> list[Note]:
            return [note for note in self.notes.of("ready") if note.worker == worker.name]

        self.wait_for(ready, f"the worker {worker.name} did not get ready", [worker])
        return ready()[0]

    def some_worker(self) -> Worker:
        """One that is ready; the first call starts it."""
        alive = [worker for worker in self.workers if worker.alive]
        worker = alive[0] if alive else self.start_worker()
        self.wait_ready(worker)
        return worker

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Publish a task of the probe; its id."""
        return str(self.client.send_task(f"verify.{task}", args, **options).id)

    def wait(self, event: str, *task_ids: str, count: int | None = None) -> list[Note]:
        """The notes of an event, once there are as many as tasks, or `count`. Raises Fault."""
        wanted = count or len(task_ids)
        self.wait_for(
            lambda: len(self.notes.of(event, *task_ids)) >= wanted,
            f"{len(self.notes.of(event, *task_ids))} of {wanted} tasks {event}",
            self.workers,
        )
        return self.notes.of(event, *task_ids)

    def wait_for(self, condition: Any, otherwise: str, workers: list[Worker] | None = None) -> None:
        """Until it holds. Raises Fault with `otherwise` when time is up, or those workers have ended."""
        deadline = time.monotonic() + self.request.timeout_s
        while not condition():
            if workers and not any(worker.alive for worker in workers):
                codes = ", ".join(f"{worker.name} with exit code {worker.exit_code}" for worker in workers)
                raise Fault(f"{otherwise}: the worker ended, {codes}", "read its log, and run this again")
            if time.monotonic() > deadline:
                raise Fault(
                    f"{otherwise} within {self.request.timeout_s:g} s",
                    "read the workers' log; on a slow machine give --timeout more",
                )
            time.sleep(_LOOK_EVERY)

    # -- the end ----------------------------------------------------------------------------------------

    def end_workers(self) -> None:
        """Kill what still runs, and let go of our own connections."""
        for worker in self.workers:
            worker.kill()
        self.client.close()
        pools.reset()

    def close(self) -> None:
        self.ground.close()
        shutil.rmtree(self.folder, ignore_errors=True)
