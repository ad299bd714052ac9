"""The demo: the evaluation application over PostgreSQL, from an empty database to graded documents.

    python3 dev.py demo

Starts a private PostgreSQL (or uses DATABASE_URL), sends evaluations with `delay()`, runs them in a real
`celery worker`, and shows grades, comments and the queue's tables. Exit code 0 only if all of it worked.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from celery_postgres import ConfigurationError
from celery_postgres.embedded import EmbeddedPostgres

from .worker_process import ROOT, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 60.0

TABLES = """\
SELECT q.name AS queue,
       (SELECT count(*) FROM celery.ready   WHERE queue_id = q.id) AS ready,
       (SELECT count(*) FROM celery.delayed WHERE queue_id = q.id) AS delayed,
       (SELECT count(*) FROM celery.unacked WHERE queue_id = q.id) AS unacked
  FROM celery.queue q WHERE q.name = 'celery'"""

WAITING = """\
SELECT m.id, m.task, left(m.task_id, 8) AS task_id, m.priority,
       to_char(m.enqueued_at, 'HH24:MI:SS.MS') AS enqueued_at
  FROM celery.message m JOIN celery.ready r ON r.message_id = m.id
 ORDER BY r.priority DESC, m.id"""


class Steps:
    """Announces each step and remembers what it took."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        print(f"\n== {name}", flush=True)
        begin = time.monotonic()
        yield
        self.taken.append((name, time.monotonic() - begin))

    def report(self) -> None:
        for name, seconds in self.taken:
            print(f"  {seconds:6.2f} s  {name}")
        print(f"  {sum(seconds for _, seconds in self.taken):6.2f} s  altogether")


def main() -> int:
    # The application is imported when it is known where its database is.
    step = Steps()
    with ExitStack() as stack:
        with step("A PostgreSQL server"):
            whose = "the one of DATABASE_URL"
            if not os.environ.get("DATABASE_URL"):
                whose = "private, gone when the demo ends"
                os.environ["DATABASE_URL"] = stack.enter_context(EmbeddedPostgres()).url
            os.environ.pop("BROKER_URL", None)
            database = stack.enter_context(psycopg.connect(os.environ["DATABASE_URL"], autocommit=True))
            info = database.info
            version = info.parameter_status("server_version")
            print(f"PostgreSQL {version} on {info.host}:{info.port}, {whose}")

        with step("The application's documents, in the same database"):
            ids = load_documents()

        with step("Evaluations sent with delay(), before any worker runs"):
            send(ids)
            show(database, WAITING)

        with step("A worker"):
            worker = stack.enter_context(
                WorkerProcess("evaluation.app", "--concurrency", "2", "--loglevel", "INFO", env={})
            )
            print("$ " + " ".join(worker.command))
            worker.wait_ready(PATIENCE_S)
            print(f"ready, process {worker.pid}")

        with step("Evaluating"):
            completed = follow(database, worker, ids)

        with step("The queue's tables afterwards"):
            show(database, TABLES)

        with step("Warm shutdown"):
            code = worker.stop()
            print(f"the worker ended with exit code {code}")

        print("\n== Results")
        report(ids)
        print("\n== What each step took")
        step.report()
        print(GOING_ON)
        return 0 if completed and code == 0 else 1


def load_documents() -> list[int]:
    from evaluation.database import create_tables, engine_for, sessions_for
    from evaluation.load import load

    engine = engine_for()
    create_tables(engine)
    documents = [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "examples/evaluation/documents/planted.md",
    ]
    ids = load(sessions_for(engine), documents)
    for id_, document in zip(ids, documents, strict=True):
        words = len(document.read_text(encoding="utf-8").split())
        print(f"evaluation {id_}: {document.relative_to(ROOT)}, {words:,} words")
    return ids


def send(ids: list[int]) -> None:
    from evaluation.tasks import evaluate

    for id_ in ids:
        begin = time.monotonic()
        result = evaluate.delay(id_)
        print(f"evaluate.delay({id_}) -> {result.id} in {1000 * (time.monotonic() - begin):.1f} ms")


def follow(database: psycopg.Connection[Any], worker: WorkerProcess, ids: list[int]) -> bool:
    """Print each evaluation as it ends; whether all completed."""
    query = "SELECT id, status FROM app.evaluation WHERE id = ANY (%s) AND status IN ('COMPLETED', 'FAILED')"
    done: dict[int, str] = {}
    begin = time.monotonic()
    while len(done) < len(ids):
        if not worker.running or time.monotonic() - begin > PATIENCE_S:
            print(f"gave up; the worker said:\n{worker.log}")
            return False
        for id_, status in database.execute(query, (ids,)):
            if id_ not in done:
                done[id_] = status
                elapsed = time.monotonic() - begin
                print(
                    f"{elapsed:6.2f} s  evaluation {id_} {status.lower()}  ({len(done)} of {len(ids)})",
                    flush=True,
                )
        time.sleep(0.05)
    return set(done.values()) == {"COMPLETED"}


def show(database: psycopg.Connection[Any], query: str) -> None:
    """The query as one would type it, and its rows."""
    print(query)
    cursor = database.execute(query)
    rows = [[str(value) for value in row] for row in cursor]
    names = [column.name for column in cursor.description or ()]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    for line in (names, ["-" * width for width in widths], *rows):
        print(
            "  " + "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()
        )


def report(ids: list[int]) -> None:
    from evaluation.database import engine_for, sessions_for, transaction
    from evaluation.report import Style, render

    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    with transaction(sessions_for(engine_for())) as session:
        for id_ in ids:
            last = id_ == ids[-1]
            print(render(session, id_, Style(colour=colour, limit=None if last else 3)))
            print()


GOING_ON = """
== By hand, in two terminals

  1  celery-postgres serve            a private PostgreSQL; prints the export line for the second terminal
  2  export DATABASE_URL=...
     PYTHONPATH=examples python -m evaluation.load README.md
     PYTHONPATH=examples celery -A evaluation.app worker --loglevel INFO &
     PYTHONPATH=examples celery -A evaluation.app call evaluation.evaluate --args '[1]'
     PYTHONPATH=examples python -m evaluation.report 1
     psql "$DATABASE_URL" -c 'TABLE celery.queue'

The programs are in .venv/bin."""


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "examples")]
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (ConfigurationError, RuntimeError, psycopg.OperationalError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        sys.exit(1)
