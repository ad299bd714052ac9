"""An application with tasks and a table of its own in one database, which it reaches in several ways."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import psycopg
import psycopg2
import pytest
from celery import Celery
from kombu import pools
from psycopg.rows import dict_row
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from tests.fixtures.broker import broker, fresh_broker, pytest_configure, pytest_itemcollected
from tests.fixtures.worker import pytest_runtest_makereport, site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "broker",
    "fresh_broker",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_runtest_makereport",
    "site",
]


class Shop:
    """An application on one database: tasks, and orders in a table."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = Celery("shop", broker=url, set_as_current=False)
        self.app.conf.task_ignore_result = True
        self.observer = psycopg.connect(url, autocommit=True)
        self.observer.execute("CREATE TABLE shop_order (id int)")

    def send(self, *args: Any, **options: Any) -> str:
        """Publish a task; its id."""
        task_id: str = self.app.send_task("shop.greet", args, **options).id
        return task_id

    def waiting(self) -> list[str]:
        """The ids of the tasks that everybody sees, in the order of their publication."""
        rows = self.observer.execute("SELECT task_id FROM celery.message ORDER BY id").fetchall()
        return [row[0] for row in rows]

    def orders(self) -> int:
        row = self.observer.execute("SELECT count(*) FROM shop_order").fetchone()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        self.app.close()
        pools.reset()
        self.observer.close()


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    made = Shop(database_url)
    yield made
    made.close()


@contextmanager
def _psycopg(url: str, **options: Any) -> Iterator[Any]:
    with psycopg.connect(url, **options) as connection:
        yield connection, connection.execute


@contextmanager
def _psycopg2(url: str) -> Iterator[Any]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            yield connection, cursor.execute
    finally:
        connection.close()


@contextmanager
def _session(url: str, driver: str) -> Iterator[Any]:
    engine = create_engine(url.replace("postgresql://", f"postgresql+{driver}://", 1))
    try:
        with Session(engine) as session, session.begin():
            yield session, lambda statement: session.connection().exec_driver_sql(statement)
    finally:
        engine.dispose()


@contextmanager
def _core(url: str) -> Iterator[Any]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with engine.begin() as connection:
            yield connection, connection.exec_driver_sql
    finally:
        engine.dispose()


@contextmanager
def _django(url: str) -> Iterator[Any]:
    with django_connection(url) as connection:
        # As `atomic` does for connections that Django knows by name.
        connection.set_autocommit(False)
        try:
            with connection.cursor() as cursor:
                yield connection, cursor.execute
        except BaseException:
            connection.rollback()
            raise
        else:
            connection.commit()


@contextmanager
def django_connection(url: str) -> Iterator[Any]:
    """Django's own wrapper, without a project around it."""
    import django
    from django.conf import settings
    from django.db.utils import ConnectionHandler

    if not settings.configured:
        settings.configure(DATABASES={}, INSTALLED_APPS=[])
        django.setup()
    parts = urlsplit(url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname,
        "PORT": parts.port or 5432,
    }
    connection = ConnectionHandler({"default": database})["default"]
    try:
        yield connection
    finally:
        connection.close()


WAYS: dict[str, Callable[[str], Any]] = {
    "psycopg": _psycopg,
    "psycopg with rows as dictionaries": lambda url: _psycopg(url, row_factory=dict_row),
    "psycopg2": _psycopg2,
    "Session over psycopg": lambda url: _session(url, "psycopg"),
    "Session over psycopg2": lambda url: _session(url, "psycopg2"),
    "Connection of SQLAlchemy": _core,
    "Django": _django,
}


@pytest.fixture(params=list(WAYS))
def begin(request: pytest.FixtureRequest, shop: Shop) -> Callable[[], Any]:
    """`with begin() as (connection, execute)` is a transaction, begun in one of the ways.

    Leaving commits it, or rolls it back after an error.
    """
    return lambda: WAYS[request.param](shop.url)
