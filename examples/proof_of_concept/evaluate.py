"""Step 5: the application's own work in a worker, and the import of documents as its first task to move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evaluation.database import create_tables, engine_for

from . import site
from .app import evaluate, import_document
from .jobs import echo, started_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

_PENDING = "SELECT id FROM app.evaluation WHERE status = 'PENDING' ORDER BY id LIMIT 1"

_OUTCOME = """
SELECT e.status, v.grade, count(c.id), count(c.id) FILTER (WHERE c.is_valid)
  FROM app.evaluation e
  LEFT JOIN app.evaluation_version v ON v.evaluation_id = e.id
  LEFT JOIN app.comment c ON c.evaluation_version_id = v.id
 WHERE e.id = %s GROUP BY e.id, v.id ORDER BY v.version DESC LIMIT 1"""


def run(ids: Sequence[int], wait_s: float) -> int:
    """Evaluate those in a worker, or one that is PENDING. 0 if all succeeded."""
    site.set_up()
    create_tables(engine_for())
    with site.database() as connection:
        ids = ids or [row[0] for row in connection.execute(_PENDING)]
        if not ids:
            print("No evaluation is PENDING; `python -m evaluation.load FILE` makes one.")
            return 0
        sent = {id_: evaluate.delay(id_) for id_ in ids}
        for id_, result in sent.items():
            print(f"Evaluation {id_}, sent as {result.id}")
        with started_worker(wait_s) as worker:
            values = {id_: result.get(timeout=wait_s, propagate=False) for id_, result in sent.items()}
            echo(worker, *sent.values())
        for id_, value in values.items():
            print(f"\nEvaluation {id_}: {sent[id_].state}, {value!r}")
            _tell(connection, id_)
        return 0 if all(result.successful() for result in sent.values()) else 1


def _tell(connection: psycopg.Connection[Any], evaluation_id: int) -> None:
    """What the application's own tables say of it."""
    row = connection.execute(_OUTCOME, (evaluation_id,)).fetchone()
    if row is None:
        print("The application has no such evaluation.")
        return
    status, grade, comments, valid = row
    print(f"The application's tables: {status}, grade {grade}, {comments} comments, {valid} of them placed")


def run_import(path: str, wait_s: float) -> int:
    """Import a file twice: the second message finds what the first one did."""
    site.set_up()
    create_tables(engine_for())
    sent = [import_document.delay(path) for _ in range(2)]
    with started_worker(wait_s):
        for result in sent:
            print(f"  {result.id}  {result.get(timeout=wait_s)}")
    return 0
