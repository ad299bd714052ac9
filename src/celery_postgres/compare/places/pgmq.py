"""kombu's pgmq transport: queues of its own in the extension's schema, which has to be there."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg

from celery_postgres import dsn
from celery_postgres.compare.failure import Failure
from celery_postgres.errors import Error

from . import postgresql
from .place import Place, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from celery_postgres.dsn import Dsn


class PgmqPlace(Place):
    """Every queue's name holds the token; none may be longer than 47 characters."""

    kind: ClassVar = "pgmq"
    title: ClassVar[str] = "pgmq"
    schemes: ClassVar[tuple[str, ...]] = ("pgmq",)

    @property
    def usual_results(self) -> str:
        return f"db+postgresql+psycopg://{self.url.partition('://')[2]}"

    @property
    def is_local(self) -> bool:
        with self._connected() as connection:
            return postgresql.is_here(connection)

    def reach(self) -> None:
        if importlib.util.find_spec("pgmq") is None:
            raise Failure("the package pgmq is not installed: pip install 'kombu[pgmq]'")
        try:
            with self._connected() as connection:
                row = connection.execute("SELECT to_regclass('pgmq.meta') IS NOT NULL").fetchone()
        except Error as error:
            raise Failure(str(error)) from error
        except psycopg.Error as error:
            raise postgresql.not_let_in(error) from error
        if row != (True,):
            raise Failure("the database has no pgmq: CREATE EXTENSION pgmq, or run the SQL of its package")

    def version(self) -> str:
        with self._connected() as connection:
            row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'pgmq'").fetchone()
            server = str(connection.info.parameter_status("server_version")).split()[0]
            return f"{row[0] if row else 'as SQL'} on PostgreSQL {server}"

    def settings(self) -> dict[str, str]:
        with self._connected() as connection:
            return postgresql.settings_of(connection)

    def prepare(self) -> None:
        """Nothing: kombu makes each queue with its first use."""

    def broker(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "broker_url": self.url,
            # It is there, and it stays.
            "broker_transport_options": {**options, "init_extension": False},
            # Followed by a UUID.
            "event_queue_prefix": self.token,
        }

    def clean(self) -> None:
        with self._connected() as connection:
            queues = connection.execute(
                "SELECT queue_name FROM pgmq.meta WHERE position(%s IN queue_name) > 0", (self.token,)
            ).fetchall()
            for (queue,) in queues:
                connection.execute("SELECT pgmq.drop_queue(%s)", (queue,))

    def listing(self) -> set[str] | None:
        with self._connected() as connection:
            return postgresql.listing_of(connection)

    def process_id(self) -> int | None:
        with self._connected() as connection:
            return postgresql.postmaster_of(connection)

    def data_folder(self) -> Path | None:
        with self._connected() as connection:
            return postgresql.data_folder_of(connection)

    def usage(self) -> Usage:
        with self._connected() as connection:
            return postgresql.usage_of(connection, "pgmq")

    def _dsn(self) -> Dsn:
        return dsn.parse(f"postgresql://{self.url.partition('://')[2]}")

    def _connected(self) -> closing[psycopg.Connection[Any]]:
        return closing(postgresql.connected(self._dsn()))
