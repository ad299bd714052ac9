"""The database under examination: what it is asked, and through which session."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from celery_postgres.connection import Database
from celery_postgres.refusals import not_connected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import LiteralString

    from celery_postgres.connection import Server
    from celery_postgres.dsn import Dsn
    from celery_postgres.options import Options

# Whatever the role's own settings are; in the transaction, so that nothing stays behind in a pooler.
_SETTINGS = """SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL statement_timeout = '30s';
SET LOCAL lock_timeout = '2s'; SET LOCAL default_transaction_read_only = on"""


class Patient:
    """One database, schema and role. Blocks; for one thread. Made by `open`, ended by `close`."""

    def __init__(
        self,
        dsn: Dsn,
        options: Options,
        *,
        patience_s: float,
        needs: Sequence[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`patience_s`: how long a transaction may be open, or a message wait, before it is worth a word.

        `needs`: for which purposes the role of the URL is meant. `clock`: this machine's, in seconds.
        """
        self.dsn = dsn
        self.options = options
        self.schema = options.schema
        self.patience_s = patience_s
        self.needs = tuple(needs)
        self.clock = clock
        self.server: Server
        self.role = ""
        self._connection: psycopg.Connection[Any] | None = None

    def open(self) -> float:
        """As a worker connects, then a session to look with; returns how long the first took, in seconds.

        Raises as `Database.open` does.
        """
        begin = time.monotonic()
        session, self.server = Database(self.dsn, self.options).open()
        taken = time.monotonic() - begin
        session.close()
        self.role = self.server.user
        self._connection = self.connect()
        return taken

    def connect(self) -> psycopg.Connection[Any]:
        """A session of its own. Raises DatabaseUnavailable or ConfigurationError."""
        try:
            return psycopg.connect(
                self.dsn.at_primary().libpq(client_encoding="utf8", **self._patience()),
                autocommit=True,
                prepare_threshold=None,
            )
        except psycopg.OperationalError as exc:
            raise not_connected(exc, self.dsn) from exc

    def _patience(self) -> dict[str, int]:
        if "connect_timeout" in self.dsn.conninfo:
            return {}
        return {"connect_timeout": max(2, round(self.options.connect_timeout))}

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        assert self._connection is not None
        with self._connection.transaction():
            self._connection.execute(_SETTINGS)
            yield self._connection

    def rows(self, query: LiteralString, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query in which {s} stands for the schema. Raises psycopg.Error."""
        named = sql.SQL(query).format(s=sql.Identifier(self.schema))
        with self.transaction() as connection:
            return connection.execute(named, values).fetchall()

    def row(self, query: LiteralString, values: Mapping[str, object] | None = None) -> tuple[Any, ...]:
        """The one row of a query."""
        return self.rows(query, values)[0]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
