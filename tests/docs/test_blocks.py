"""Every block of code in the documents works: SQL, shell, Python and URLs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from celery import Celery
from kombu import Connection, pools

from celery_postgres import SCHEMES, dsn, schema
from tests.fixtures.database import new_database

from .documents import Block, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The task's id that the documents use.
TASK_ID = "e2d0a2c3-9b1c-4c6f-8a55-0d2f6a1c7b11"

_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


@pytest.fixture(scope="module")
def lived_in(server: str) -> Iterator[str]:
    """A database with what waits, is held, is claimed by a worker that is gone, is dead, and has results."""
    with new_database(server) as url:
        app = Celery("shop", broker=url, set_as_current=False)
        for number in range(5):
            app.send_task("shop.greet", [number], task_id=TASK_ID if number == 4 else None)
        app.send_task("shop.greet", ["later"], countdown=3600)
        pools.reset()
        with psycopg.connect(url, autocommit=True) as database, Connection(url) as consumer:
            assert consumer.default_channel.basic_get("celery") is not None
            consumer.transport.intake.give_up()  # it leaves without saying so
            database.execute(  # as the sweeper does
                "WITH dead AS (DELETE FROM celery.ready WHERE message_id = "
                " (SELECT min(message_id) FROM celery.ready) RETURNING message_id)"
                "INSERT INTO celery.dead_letter (message_id, queue, reason, deliveries)"
                " SELECT message_id, 'celery', 'max_deliveries', 20 FROM dead"
            )
            database.execute(  # as a result backend does
                "INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta, name,"
                " error, created_at, started_at, finished_at)"
                " SELECT 'shop ' || state, state, 'application/json', 'utf-8', '{}', 'shop.greet',"
                " error, now() - began, now() - began, now() - ended"
                " FROM (VALUES ('SUCCESS', NULL, interval '2 s', interval '1 s'),"
                " ('FAILURE', 'ValueError: no', '2 s', '1 s'), ('STARTED', NULL, '2 h', NULL))"
                " AS known (state, error, began, ended)"
            )
        yield url


@pytest.mark.parametrize("block", [b for b in blocks("sql") if "step" not in b.mark], ids=str)
def test_sql(block: Block, lived_in: str) -> None:
    """It is accepted, and finds or changes something unless it says that it may not."""
    with psycopg.connect(lived_in) as connection:
        known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        for role in {"shop", "grafana"} - known:
            if f'"{role}"' in block.text:
                connection.execute(f"CREATE ROLE {role}")
        cursor = connection.execute(block.text.encode())
        if block.mark != "may be empty" and cursor.statusmessage.startswith(("SELECT", "INSERT", "DELETE")):
            assert cursor.rowcount > 0
        connection.rollback()


@pytest.mark.parametrize("block", blocks("sh", "run"), ids=str)
def test_shell(block: Block, empty_database_url: str, tmp_path: Path) -> None:
    """It ends well, and prints what the block behind it shows."""
    schema.upgrade(dsn.parse(empty_database_url), "celery")
    write_files(block.document, tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["DATABASE_URL"] = empty_database_url
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    following = next((other for other in blocks() if _follows(other, block)), None)
    if following is not None and following.mark == "output":
        expected = re.escape(_UUID.sub("UUID", following.text)).replace("…", ".*")
        assert re.fullmatch(expected, _UUID.sub("UUID", done.stdout)), done.stdout


def write_files(document: Path, folder: Path) -> None:
    """Put the files that the document shows into the folder."""
    for block in blocks():
        if block.document == document and block.mark.startswith("file: "):
            (folder / block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")


def _follows(other: Block, block: Block) -> bool:
    end = block.line + block.text.count("\n") + 1
    return other.document == block.document and 0 < other.line - end <= 3


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python(block: Block) -> None:
    """It compiles."""
    compile(block.text, str(block), "exec")


def test_languages() -> None:
    """No block is of a kind that nobody looks at."""
    assert {block.language for block in blocks()} <= {"sql", "sh", "python", "text", "console"}


@pytest.mark.parametrize("url", [line for block in blocks(mark="urls") for line in block.text.splitlines()])
def test_url(url: str) -> None:
    """It is understood, and shows no password."""
    assert "password" not in dsn.parse(url).masked()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scheme(scheme: str, empty_module_database_url: str) -> None:
    """A Celery application connects by each scheme that names PostgreSQL."""
    url = f"{scheme}://{empty_module_database_url.partition('://')[2]}"
    app = Celery("shop", broker=url, set_as_current=False)
    with app.connection_for_write() as connection:
        assert connection.connect().connected
