"""PostgreSQL under celery-postgres: a schema of its own."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
from psycopg import sql

from celery_postgres import dsn
from celery_postgres.compare import processes, urls
from celery_postgres.compare.failure import Failure, worded
from celery_postgres.enlistment import enlist
from celery_postgres.errors import Error
from celery_postgres.verify import catalog
from celery_postgres.verify.ground import Ground
from celery_postgres.verify.outcome import Fault

from .place import Place, Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from celery_postgres.dsn import Dsn

_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers", "max_wal_size")


class PostgresqlPlace(Place):
    """The schema bears the name, unless the user prepared one, which is left empty."""

    kind: ClassVar = "postgresql"
    title: ClassVar[str] = "PostgreSQL"
    enlists = "within enlist()"
    schemes: ClassVar[tuple[str, ...]] = ("postgresql", "postgres", "postgresql+")
    result_schemes: ClassVar[tuple[str, ...]] = schemes

    _ground: Ground | None = None

    @property
    def schema(self) -> str:
        return self.prepared_schema or self.name

    @property
    def is_local(self) -> bool:
        # The host may come from PGHOST, and the answer from the server: its address is empty on a socket.
        return self._is_local_server()

    def reach(self) -> None:
        try:
            self._dsn()
            with self._connected():
                pass
        except Error as error:
            raise Failure(str(error)) from error
        except psycopg.Error as error:
            raise not_let_in(error) from error

    def version(self) -> str:
        with self._connected() as connection:
            return str(connection.info.parameter_status("server_version")).split()[0]

    def settings(self) -> dict[str, str]:
        with self._connected() as connection:
            return settings_of(connection)

    def prepare(self) -> None:
        ground = Ground(self._dsn(), self.schema)
        ground.connect()
        self._ground = ground
        try:
            with ground.transaction() as connection:
                role = catalog.role(connection)
                exists = catalog.schema(connection, self.schema).exists
            if not exists and not (role.superuser or role.may_create_schemas):
                raise Failure(
                    f"the role {role.name} may not create a schema for the comparison: {role.grant_create} "
                    "or have one made, and give it by --in-schema"
                )
            ground.set_up()
        except Fault as fault:
            raise Failure(f"{fault.said}: {fault.remedy}") from fault
        except Error as error:
            raise Failure(str(error)) from error

    def broker(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"broker_url": self.url, "broker_transport_options": {**options, "schema": self.schema}}

    def results(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "result_backend": self.url,
            "result_backend_transport_options": {**options, "schema": self.schema},
        }

    def clean(self) -> None:
        if self._ground is not None:
            self._ground.remove()

    def listing(self) -> set[str] | None:
        with self._connected() as connection:
            return listing_of(connection)

    def keeps(self, task_ids: Collection[str]) -> set[str] | None:
        with self._connected() as connection:
            rows = connection.execute(
                sql.SQL(
                    """SELECT m.task_id FROM {s}.message m WHERE m.task_id = ANY(%s)
                          AND NOT EXISTS (SELECT FROM {s}.dead_letter d WHERE d.message_id = m.id)
                          AND (m.expires_at IS NULL OR m.expires_at > now())"""
                ).format(s=sql.Identifier(self.schema)),
                (list(task_ids),),
            ).fetchall()
        return {task_id for (task_id,) in rows}

    def query(self, task_id: str) -> tuple[str, int] | None:
        with self._connected() as connection:
            schema = sql.Identifier(self.schema).as_string(connection)
            statement = f"SELECT count(*) FROM {schema}.message WHERE task_id = '{task_id}'"
            return statement, count_by(connection, statement)

    @contextmanager
    def transaction(self) -> Iterator[object]:
        with (
            self._connected() as connection,
            connection.transaction(force_rollback=True),
            enlist(connection),
        ):
            yield None

    def process_id(self) -> int | None:
        with self._connected() as connection:
            return postmaster_of(connection)

    def data_folder(self) -> Path | None:
        with self._connected() as connection:
            return data_folder_of(connection)

    def usage(self) -> Usage:
        with self._connected() as connection:
            return usage_of(connection, self.schema)

    def close(self) -> None:
        if self._ground is not None:
            self._ground.close()

    def _is_local_server(self) -> bool:
        with self._connected() as connection:
            return is_here(connection)

    def _dsn(self) -> Dsn:
        return dsn.parse(self.url)

    def _connected(self) -> psycopg.Connection[Any]:
        return connected(self._dsn())


def connected(to: Dsn) -> psycopg.Connection[Any]:
    """A session for looking at a database; `with` closes it."""
    return psycopg.connect(
        to.at_primary().libpq(),
        autocommit=True,
        prepare_threshold=None,
        client_encoding="utf8",
        connect_timeout=5,
    )


def not_let_in(error: psycopg.Error) -> Failure:
    """What somebody can do about a session that could not be had."""
    return Failure(
        f"no PostgreSQL lets us in ({worded(error)}): start it, or correct host, user and password in the URL"
    )


def settings_of(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """What the server's durability is made of."""
    found = {}
    for name in _SETTINGS:
        row = connection.execute("SELECT current_setting(%s, true)", (name,)).fetchone()
        if row and row[0] is not None:
            found[name] = str(row[0])
    return found


def listing_of(connection: psycopg.Connection[Any]) -> set[str]:
    """Every object of the database."""
    return {f"{kind} {name}" for kind, name in catalog.objects(connection, outside="")}


def is_local(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server is a process of this machine that we can see."""
    row = connection.execute(
        "SELECT coalesce(inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1', true)"
    ).fetchone()
    return row == (True,)


def is_here(connection: psycopg.Connection[Any]) -> bool:
    """Whether the way to it ends on this machine: also in a container, which has a network of its own."""
    return is_local(connection) or urls.is_local_host(connection.info.host)


def postmaster_of(connection: psycopg.Connection[Any]) -> int | None:
    """The parent of our own backend, where both are processes of this machine."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()  # a pooler invents its own
    backend = int(row[0]) if row else 0
    if is_local(connection) and processes.command_of(backend).startswith("postgres"):
        return processes.parent_of(backend)
    return None


def data_folder_of(connection: psycopg.Connection[Any]) -> Path | None:
    """Told to superusers and members of pg_read_all_settings."""
    if not is_local(connection):
        return None
    # The function would be refused to others; in this view, they see no such row.
    row = connection.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone()
    return Path(row[0]) if row and row[0] else None


def usage_of(connection: psycopg.Connection[Any], schema: str) -> Usage:
    """What the server has used, and what lies in the schema."""
    pid = postmaster_of(connection)
    wal = disk = None
    try:
        row = connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
        ).fetchone()
        wal = row[0] if row else None
        row = connection.execute(
            """SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = %s AND c.relkind IN ('r', 'm')""",
            (schema,),
        ).fetchone()
        disk = row[0] if row else None
    except psycopg.Error:
        pass  # a provider may hide them
    return Usage(
        cpu_s=None if pid is None else processes.tree_cpu_s(pid),
        memory_bytes=None if pid is None else processes.tree_memory_bytes(pid),
        disk_bytes=disk,
        log_bytes=wal,
    )


def count_by(connection: psycopg.Connection[Any], statement: str) -> int:
    """The one number that a statement asks for, run as it would be typed in."""
    row = connection.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0


def create_schema(connection: psycopg.Connection[Any], name: str) -> None:
    """Raises Failure with the GRANT that is missing."""
    role = catalog.role(connection)
    if not (role.superuser or role.may_create_schemas):
        raise Failure(f"the role {role.name} may not create a schema for the comparison: {role.grant_create}")
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
