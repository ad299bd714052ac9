"""Opens sessions: what the server must be like, which settings hold, what its errors mean.

A new session costs one round trip beside libpq's own: the facts about the server, our settings and the
version of the schema come in one flush.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from . import fork, schema
from .backoff import Backoff
from .errors import ConfigurationError, DatabaseRejected, DatabaseUnavailable, Error, SchemaError
from .exposure import warn_if_exposed
from .refusals import not_connected, one_line, translate
from .rights import migrate_command
from .sql import Statement
from .sqlstates import Reaction, reaction
from .wire import Session

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from .dsn import Dsn
    from .encoding import Rows
    from .options import Options
    from .wire import Batch

_log = logging.getLogger(__name__)

OLDEST_SERVER = 130000

DRIVER_VERSION = psycopg.__version__

# A client notices a dead server after 5 + 2 * 3 seconds, a server a dead client likewise.
_KEEPALIVE = {
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "12000",
}

# Our settings win over those of the role and of the database: a role's `statement_timeout = 50ms` must not
# stop a claim, a `search_path` must not lead to somebody else's operators, and what was stored must be on
# disk unless the statement itself says that it need not.
#
# The plans: each statement finds few rows by an index, whatever the tables hold. A session plans it once, in
# a worker often while the tables are empty; reading an empty table whole looks cheapest then, and would be
# done thousands of times a second once it is full. So what reads a table whole is switched off, except where
# there is no other way; and nothing is worth compiling.
#
# Through a transaction pooler nothing is set, because it would stay on a server session that the next client
# gets: there each transaction begins with what it cannot do without, see _SET_LOCAL. Nothing is prepared
# there either, so plans are made for the tables as they are.
#
# A session pooler cannot be told from a transaction pooler: both tell a process id that is not the server's,
# and who else may get a session shows only when somebody else gets it. So `pooled=false` is believed.
#
# 1 the process id that the client was told, NULL to set them whatever it was, 2 statement
# timeout ms, 3 lock timeout ms.
_GREET = Statement(
    "greet",
    """SELECT current_setting('server_encoding'), pg_backend_pid(), current_user, current_database(),
       pg_is_in_recovery(), current_setting('synchronous_commit'),
       coalesce(has_function_privilege(coalesce(
           to_regprocedure('pg_catalog.pg_logical_emit_message(boolean,text,text,boolean)'),
           to_regprocedure('pg_catalog.pg_logical_emit_message(boolean,text,text)')), 'EXECUTE'), false),
       CASE WHEN pg_backend_pid() = coalesce($1::int, pg_backend_pid()) THEN (
    SELECT count(set_config(name, value, false)) FROM (VALUES
        ('search_path', 'pg_catalog, pg_temp', 0, false),
        ('statement_timeout', $2::text, 0, false),
        ('lock_timeout', $3::text, 0, false),
        ('idle_in_transaction_session_timeout', '30000', 0, false),
        ('idle_session_timeout', '0', 140000, false),
        ('transaction_timeout', '0', 170000, false),
        ('default_transaction_read_only', 'off', 0, false),
        ('default_transaction_isolation', 'read committed', 0, false),
        ('synchronous_commit', CASE current_setting('synchronous_commit')
            WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, 0, false),
        ('plan_cache_mode', 'force_generic_plan', 0, false),
        ('enable_seqscan', 'off', 0, false),
        ('enable_bitmapscan', 'off', 0, false),
        ('enable_hashjoin', 'off', 0, false),
        ('enable_mergejoin', 'off', 0, false),
        ('jit', 'off', 0, false),
        ('tcp_keepalives_idle', '5', 0, true),
        ('tcp_keepalives_interval', '2', 0, true),
        ('tcp_keepalives_count', '3', 0, true)) AS setting (name, value, since, over_tcp)
     WHERE since <= current_setting('server_version_num')::int
       AND (NOT over_tcp OR inet_client_addr() IS NOT NULL)) END""",
)

# For each transaction through a transaction pooler: against a role's `statement_timeout = 50ms`, which would
# stop a claim over and over, and its `synchronous_commit = off`.
# The timer is set anew for each statement, so what follows is under this one.
# What makes a transaction read-only cannot be undone from inside it.
#
# 1 statement timeout ms, 2 lock timeout ms.
_SET_LOCAL = Statement(
    "set_local",
    """SELECT count(set_config(name, value, true)) FROM (VALUES
        ('statement_timeout', $1::text),
        ('lock_timeout', $2::text),
        ('synchronous_commit', CASE current_setting('synchronous_commit')
            WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END),
        ('idle_in_transaction_session_timeout', '30000')) AS setting (name, value)""",
)

# Where something did not keep what a session had prepared, and the SQLSTATE that told so.
_unprepared: dict[tuple[object, ...], str] = {}

_OUTDATED_PLAN = "0A000"

# Poolers that the log has told of: a process has many connections, and says it once.
_poolers: set[str] = set()

_SCHEMA_VERSION = Statement("schema_version", "SELECT version_num::text FROM {s}.schema_version")


@dataclass(frozen=True)
class Server:
    """What a session learnt about the server it is connected to."""

    version: int
    pooled: bool
    user: str
    database: str
    durable: str
    """The value of synchronous_commit that a durable publish uses."""
    can_flush: bool
    """Whether the role may wait for the disk apart from what it writes, see `sql.flush`."""
    schema_version: str | None
    """None where the schema, or the table in it, does not exist."""


class Database:
    """One DSN and one set of options; makes sessions. Safe to share between threads."""

    def __init__(self, dsn: Dsn, options: Options, *, connect_timeout: float | None = None) -> None:
        self.dsn = dsn
        self.options = options
        self.connect_timeout = connect_timeout or options.connect_timeout

    def open(self) -> tuple[Session, Server]:
        """A new session and what is behind it. Blocks for as long as `connect_timeout` allows, for each host.

        A server that has no session left for us is asked again meanwhile, in pauses that grow.
        Raises DatabaseUnavailable when no session can be had, ConfigurationError when the server, the
        database or the role can never serve.
        """
        deadline = time.monotonic() + self.connect_timeout
        backoff = Backoff()
        while True:
            try:
                with fork.opening():
                    return self._open_once()
            except DatabaseUnavailable as exc:
                pause = backoff.next()
                if not exc.crowded or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)

    def _open_once(self) -> tuple[Session, Server]:
        parameters = {**_KEEPALIVE, **self.dsn.at_primary().conninfo}
        parameters["client_encoding"] = "utf8"
        parameters.setdefault("fallback_application_name", "celery-postgres")
        parameters.setdefault("connect_timeout", str(max(2, round(self.connect_timeout))))
        try:
            connection = psycopg.Connection.connect(make_conninfo(**parameters), autocommit=True)
        except psycopg.OperationalError as exc:
            raise not_connected(exc, self.dsn) from exc
        except psycopg.ProgrammingError as exc:
            raise ConfigurationError(
                f"{self.dsn.masked()} is not usable: {one_line(exc)}: correct the URL"
            ) from exc
        except OSError as exc:  # no descriptor is left, say, when libpq's socket is to be waited for
            raise DatabaseUnavailable(f"cannot connect to {self.dsn.masked()}: {exc}") from exc
        warn_if_exposed(connection.pgconn)
        try:
            return self._greet(connection)
        except BaseException:
            connection.close()
            raise

    @property
    def place(self) -> tuple[object, ...]:
        """Equal for two that lead to the same tables as the same role."""
        known = self.dsn.conninfo
        names = ("service", "host", "hostaddr", "port", "dbname", "user")
        return (self.options.schema, *(known.get(name) for name in names))

    def open_set_up(self) -> tuple[Session, Server]:
        """As `open`, over the schema that this release wants: made or upgraded, if that is allowed.

        Raises SchemaError besides, where it is not.
        """
        session, server = self.open()
        try:
            state = schema.verdict(server.schema_version)
        except SchemaError:
            session.close()
            raise
        if state == "fit":
            return session, server
        session.close()
        if not self.options.auto_migrate:
            raise SchemaError(
                f"schema {self.options.schema} is {state} and auto_migrate is off: run "
                f"`{migrate_command(self.options.schema)}`"
            )
        schema.upgrade(self.dsn, self.options.schema)
        return self.open()

    def _greet(self, connection: psycopg.Connection) -> tuple[Session, Server]:
        options = self.options
        version = connection.pgconn.server_version
        if version < OLDEST_SERVER:
            raise ConfigurationError(
                f"{self.dsn.masked()} is PostgreSQL {version // 10000}: version 13 or newer is needed: "
                "upgrade the server"
            )
        told_pid = connection.pgconn.backend_pid
        role = connection.pgconn.user.decode()
        session = Session(connection, options.schema, translate=partial(self._judge, role))
        unprepared = _unprepared.get(self.place)
        believed = options.pooled
        if believed is None and unprepared not in (None, _OUTDATED_PLAN):
            believed = True  # it tells the server's own process id, and shares sessions all the same
        limits = (str(round(options.statement_timeout * 1000)), str(round(options.lock_timeout * 1000)))
        told = {None: told_pid, True: 0, False: None}[believed]
        greeting = session.send([(_GREET, (told, *limits))])
        checking = session.send([(_SCHEMA_VERSION, ())])
        facts = self._answer(session, greeting)
        pooled = believed if believed is not None else facts.number(0, 1) != told_pid
        if facts.text(0, 0) != "UTF8":
            raise ConfigurationError(
                f"the database {facts.text(0, 3)} has the encoding {facts.text(0, 0)}, which cannot hold "
                "every message: create one with ENCODING 'UTF8' and TEMPLATE template0"
            )
        if facts.flag(0, 4):
            raise DatabaseUnavailable(
                f"{self.dsn.masked()} is a standby, which only reads: connect to the primary, or name all "
                "hosts with target_session_attrs=read-write",
                "25006",
            )
        default = facts.text(0, 5) or "on"
        server = Server(
            version=version,
            pooled=pooled,
            user=facts.text(0, 2) or "",
            database=facts.text(0, 3) or "",
            durable=default if default == "remote_apply" else "on",
            can_flush=facts.flag(0, 6),
            schema_version=self._schema_version(session, checking),
        )
        if pooled:
            self._say_pooled()
            session.begin_with((_SET_LOCAL, limits))
        elif unprepared is None:
            session.prepare()
        fork.known(session)
        return session, server

    def _judge(self, role: str, result: PGresult, prepared: bool) -> Error:
        error = translate(result, schema=self.options.schema, role=role, prepared=prepared)
        state = error.sqlstate if isinstance(error, DatabaseUnavailable) else None
        if state is not None and reaction(state) is Reaction.UNPREPARE and self.place not in _unprepared:
            _unprepared[self.place] = state
            _log.warning(
                "%s does not keep what a session prepares: from now on nothing is prepared there. If a "
                "transaction pooler is in between, set pooled=true",
                self.dsn.masked(),
            )
        return error

    def _answer(self, session: Session, asked: Batch) -> Rows:
        try:
            return session.wait(asked, self.connect_timeout)[0]
        except DatabaseRejected as exc:  # a time-out of the role on a busy server, say: no session yet
            raise DatabaseUnavailable(f"cannot use {self.dsn.masked()}: {exc}", exc.sqlstate) from exc

    def _schema_version(self, session: Session, checking: Batch) -> str | None:
        try:
            rows = self._answer(session, checking)
        except SchemaError:
            return None
        return rows.text(0, 0) if rows.count else None

    def _say_pooled(self) -> None:
        where = self.dsn.masked()
        if where not in _poolers and self.options.session_dsn is None:
            _poolers.add(where)
            _log.warning(
                "%s is behind a transaction pooler: no notifications are heard and no session locks are "
                "held, so latency is that of the poll (%g s) and a dead worker is noticed after 30 s. "
                "Connect workers to PostgreSQL directly to have both, or tell them a direct address in "
                "session_dsn, or, if the pooler keeps a session for each connection, set pooled=false.",
                where,
                self.options.poll_interval,
            )
