"""The application's own tables, and its way to them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from evaluation.database import create_tables, drop_tables, engine_for, sessions_for, transaction
from evaluation.errors import PermanentError, TransientError
from evaluation.models import Base, Document
from sqlalchemy import insert, select, text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_usual_scheme_is_accepted(scheme: str, empty_database_url: str) -> None:
    """One driver serves them all."""
    engine = engine_for(empty_database_url.replace("postgresql", scheme, 1))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    assert engine.url.drivername == "postgresql+psycopg"


def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL is used, and its absence is told."""
    monkeypatch.setenv("DATABASE_URL", "postgres://someone@nowhere/db")
    assert engine_for().url.host == "nowhere"
    monkeypatch.delenv("DATABASE_URL")
    with pytest.raises(PermanentError, match="DATABASE_URL is not set"):
        engine_for()


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "u:secret@h", "postgresql://u:secret@h:port/d"])
def test_unusable_urls_are_refused_without_their_password(url: str) -> None:
    """The error says what is expected and keeps the secret, also in its causes."""
    with pytest.raises(PermanentError) as caught:
        engine_for(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_tables_are_created_once(empty_database_url: str) -> None:
    """Many may create them at the same time; dropping removes the schema and nothing else."""
    engine = engine_for(empty_database_url)
    errors: list[BaseException] = []

    def create() -> None:
        try:
            create_tables(engine)
        except BaseException as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    schemas = text("SELECT table_schema || '.' || table_name FROM information_schema.tables")
    with engine.connect() as connection:
        tables = set(connection.scalars(schemas))
    assert {str(table) for table in Base.metadata.sorted_tables} <= tables
    drop_tables(engine)
    with engine.connect() as connection:
        assert set(connection.scalars(schemas)) == {table for table in tables if not table.startswith("app.")}


def test_a_lost_connection_is_a_transient_error(sessions: sessionmaker[Session]) -> None:
    """What was done in the transaction is gone, and the error says that a retry may help."""

    def lose() -> None:
        with transaction(sessions) as session:
            session.execute(insert(Document).values(source="s", title="t"))
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(TransientError, match="The database is not available") as caught:
        lose()
    assert isinstance(caught.value.__cause__.__cause__, psycopg.OperationalError)  # type: ignore[union-attr]
    with transaction(sessions) as session:
        assert session.scalars(select(Document)).all() == []


def test_a_server_that_is_not_there_is_a_transient_error() -> None:
    """It may come back."""
    engine = engine_for("postgresql://127.0.0.1:1/nothing")
    with pytest.raises(TransientError), transaction(sessions_for(engine)) as session:
        session.execute(text("SELECT 1"))
    with pytest.raises(TransientError):
        create_tables(engine)
