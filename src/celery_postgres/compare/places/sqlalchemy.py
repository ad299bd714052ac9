"""kombu's SQLAlchemy transport: a schema of its own on PostgreSQL, a file of its own with SQLite.

By names of tables alone it would not do: sequences and indices bear the same name for every pair of tables.
"""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg

from celery_postgres import dsn
from celery_postgres.compare import urls
from celery_postgres.compare.failure import Failure
from celery_postgres.errors import Error
from celery_postgres.verify import catalog

from . import postgresql
from .place import Place, Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from celery_postgres.dsn import Dsn

_DRIVERS = {"postgresql": "psycopg2", "postgresql+psycopg": "psycopg", "postgresql+psycopg2": "psycopg2"}


class SqlalchemyPlace(Place):
    """On any other database the names would clash with those of an application, so none is offered."""

    kind: ClassVar = "sqla"
    title: ClassVar[str] = "SQLAlchemy"
    schemes: ClassVar[tuple[str, ...]] = ("sqla+", "sqlalchemy+")
    result_schemes: ClassVar[tuple[str, ...]] = ("db+",)

    _made = False

    @property
    def usual_results(self) -> str:
        return f"db+{self._database}"

    @property
    def is_local(self) -> bool:
        if self._is_sqlite:
            return True
        with self._connected() as connection:
            return postgresql.is_here(connection)

    def reach(self) -> None:
        if importlib.util.find_spec("sqlalchemy") is None:
            raise Failure("the package sqlalchemy is not installed: pip install 'celery[sqlalchemy]'")
        if self._is_sqlite:
            self._reach_file()
            return
        dialect = urls.scheme_of(self._database)
        if dialect not in _DRIVERS:
            raise Failure(
                f"{urls.scheme_of(self.url)}:// is not compared, since kombu's tables would clash with those "
                "of an application: give sqla+postgresql+psycopg:// or sqla+sqlite://"
            )
        if importlib.util.find_spec(_DRIVERS[dialect]) is None:
            raise Failure(
                f"the package {_DRIVERS[dialect]} is not installed: write the URL as sqla+postgresql+psycopg://…"
            )
        try:
            with self._connected():
                pass
        except Error as error:
            raise Failure(str(error)) from error
        except psycopg.Error as error:
            raise postgresql.not_let_in(error) from error

    def _reach_file(self) -> None:
        folder = self._file.parent
        if not folder.is_dir():
            raise Failure(f"there is no folder {folder} for SQLite: make it, or correct the URL")

    def version(self) -> str:
        if self._is_sqlite:
            return f"SQLite {sqlite3.sqlite_version}"
        with self._connected() as connection:
            return f"PostgreSQL {str(connection.info.parameter_status('server_version')).split()[0]}"

    def settings(self) -> dict[str, str]:
        if self._is_sqlite:
            return {}
        with self._connected() as connection:
            return postgresql.settings_of(connection)

    def prepare(self) -> None:
        self._made = True
        if not self._is_sqlite:
            with self._connected() as connection:
                postgresql.create_schema(connection, self.name)

    def broker(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"broker_url": f"sqla+{self._place}", "broker_transport_options": options}

    def results(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"result_backend": f"db+{self._place}", "result_backend_transport_options": options}

    def clean(self) -> None:
        if not self._made:
            return
        self._dispose()
        if self._is_sqlite:
            for suffix in ("", "-journal", "-wal", "-shm"):
                self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
            return
        with self._connected() as connection:
            # A session of kombu's that has counted messages leaves its transaction open.
            connection.execute(
                """SELECT pg_terminate_backend(pid) FROM (
                       SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                        WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                          AND c.relnamespace = to_regnamespace(%s)::oid AND l.pid <> pg_backend_pid()
                   ) AS ours""",
                (self.name,),
            )
            connection.execute("SET lock_timeout = '20s'")
            catalog.drop(connection, self.name)

    def listing(self) -> set[str] | None:
        if self._is_sqlite:
            return {str(path) for path in self._file.parent.iterdir()}
        with self._connected() as connection:
            return postgresql.listing_of(connection)

    def keeps(self, task_ids: Collection[str]) -> set[str] | None:
        """What a worker has taken is invisible, and stays so unless that worker gives it back."""
        payloads = self._rows(f"SELECT payload FROM {self._table} WHERE visible")
        return {id_ for id_ in task_ids if any(id_ in payload for (payload,) in payloads)}

    def waiting(self) -> int | None:
        """Without a session of kombu's for each time that somebody asks: those stay open."""
        ((count,),) = self._rows(f"SELECT count(*) FROM {self._table} WHERE visible")
        return int(count)

    def query(self, task_id: str) -> tuple[str, int] | None:
        statement = f"SELECT count(*) FROM {self._table} WHERE visible AND payload LIKE '%\"{task_id}\"%'"
        ((count,),) = self._rows(statement)
        return statement, int(count)

    @contextmanager
    def transaction(self) -> Iterator[object]:
        if self._is_sqlite:
            with closing(sqlite3.connect(self._file, isolation_level=None)) as database:
                yield database.execute("BEGIN")  # without a write, which would lock all others out
            return
        with self._connected() as connection, connection.transaction(force_rollback=True):
            yield connection.execute("SELECT pg_current_xact_id()")

    def process_id(self) -> int | None:
        if self._is_sqlite:
            return None
        with self._connected() as connection:
            return postgresql.postmaster_of(connection)

    def data_folder(self) -> Path | None:
        if self._is_sqlite:
            return self._file.parent
        with self._connected() as connection:
            return postgresql.data_folder_of(connection)

    def usage(self) -> Usage:
        if self._is_sqlite:
            return Usage(disk_bytes=self._file.stat().st_size if self._file.exists() else 0)
        with self._connected() as connection:
            return postgresql.usage_of(connection, self.name)

    @property
    def _table(self) -> str:
        return "kombu_message" if self._is_sqlite else f"{self.name}.kombu_message"

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        if self._is_sqlite:
            with closing(sqlite3.connect(self._file)) as database:
                return database.execute(statement).fetchall()
        with self._connected() as connection:
            return connection.execute(statement.encode()).fetchall()

    def _dispose(self) -> None:
        """kombu keeps an engine with its connections for each URL, as long as the process lives."""
        from kombu.transport.sqlalchemy import Channel

        for url in [url for url in Channel._engines if self.name in url]:  # noqa: SLF001 - nothing else leads to it
            Channel._engines.pop(url)[0].dispose()  # noqa: SLF001

    @property
    def _database(self) -> str:
        """The URL as SQLAlchemy knows it."""
        return self.url.partition("+")[2]

    @property
    def _is_sqlite(self) -> bool:
        return urls.scheme_of(self._database).startswith("sqlite")

    @property
    def _file(self) -> Path:
        """Beside the database that was named, so that it is on the same disk."""
        named = Path(self._database.partition(":///")[2].partition("?")[0] or "celery.db")
        return named.with_name(f"{named.name}.{self.name}").absolute()

    @property
    def _place(self) -> str:
        if self._is_sqlite:
            return f"sqlite:///{self._file}"
        return urls.with_query(self._database, options=f"-csearch_path={self.name}")

    def _dsn(self) -> Dsn:
        return dsn.parse(self._database)

    def _connected(self) -> closing[psycopg.Connection[Any]]:
        return closing(postgresql.connected(self._dsn()))
