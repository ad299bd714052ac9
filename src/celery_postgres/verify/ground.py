"""The ground that a trial stands on: a schema with our tables, made for it and removed after it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from celery_postgres import schema

from . import catalog
from .outcome import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.dsn import Dsn

# The role's own settings must not stand in the way, and stay as they are for others, also in a pooler.
_SETTINGS = """SET TRANSACTION READ WRITE; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '20s';
SET LOCAL search_path = pg_catalog"""

_ONE_OF_ITS_OWN = "give --in-schema one that was made for this alone"


class Ground:
    """Opens nothing by itself. `remove` takes away what `set_up` made, `close` ends the session."""

    def __init__(self, dsn: Dsn, schema: str) -> None:
        self.schema = schema
        self._dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None
        self._made = ""

    def connect(self) -> None:
        """Keep a session for looking at the database."""
        self._connection = self._connected()

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._dsn.at_primary().libpq(),
            autocommit=True,
            prepare_threshold=None,
            client_encoding="utf8",
        )

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction on the session that looks at the database."""
        assert self._connection is not None
        try:
            self._connection.execute("SELECT")
        except psycopg.OperationalError:  # lost on the way; what was made has to be removed all the same
            self._connection.close()
            self._connection = self._connected()
        with self._connection.transaction():
            self._connection.execute(_SETTINGS)
            yield self._connection

    def set_up(self) -> None:
        """Create the tables, and the schema unless it is there. Raises as `schema.upgrade` does."""
        with self.transaction() as connection:
            found = catalog.schema(connection, self.schema)
            if found.ours and catalog.is_used(connection, self.schema):
                said = f"the schema {self.schema} is in use: it holds queues, messages or results"
                raise Fault(said, _ONE_OF_ITS_OWN)
            if found.relations and not found.ours:
                raise Fault(f"the schema {self.schema} holds tables of somebody else", _ONE_OF_ITS_OWN)
        # Said beforehand: whatever comes in between, it is removed.
        self._made = "rows" if found.ours else "tables" if found.exists else "schema"
        schema.upgrade(self._dsn, self.schema)

    def remove(self) -> str:
        """Take away what `set_up` made; what was done, for people. Harmless when it made nothing."""
        made, self._made = self._made, ""
        if not made:
            return "nothing was made"
        with self.transaction() as connection:
            if made == "schema":
                catalog.drop(connection, self.schema)
                return f"the schema {self.schema} was removed"
            if made == "tables":
                catalog.drop_tables(connection, self.schema)
                return f"the tables in the schema {self.schema} were removed"
            catalog.empty(connection, self.schema)
        return f"the schema {self.schema} was emptied"

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
