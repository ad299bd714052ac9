"""Publishing inside a transaction of the application: what it sends exists once that commits, and not before.

It goes over the application's own connection, whatever driver that has, so nothing here is on the hot path.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from .encoding import encode
from .errors import ConfigurationError, DatabaseRejected, DatabaseUnavailable
from .messages import read_routed
from .outbox import opened
from .refusals import refused
from .sql import enlistment as sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .commands import Commands
    from .delivery import PublishToken
    from .encoding import Rows
    from .messages import Outgoing, Routed
    from .sql import Statement

    Execute = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]

_TAKES = (
    "give enlist() a Session or Connection of SQLAlchemy over psycopg or psycopg2, django.db.connection, "
    "or a connection of psycopg or psycopg2"
)


@contextmanager
def enlist(connection: Any) -> Iterator[None]:
    """Within this block, what this thread publishes belongs to the transaction of `connection`.

    `connection` is a Session or Connection of SQLAlchemy over psycopg or psycopg2, Django's
    `django.db.connection`, or a connection of psycopg or psycopg2. It has to be in a transaction on the
    broker's own database. Committing stays the caller's, inside of the block or behind it.

    It holds for everything that goes to a `postgresql://` broker: `delay()`, `apply_async()`, canvas, also
    for events and for commands to workers. Queues are declared outside of the transaction, and stay after a
    rollback; a queue's maximal length is seen to by its next message. For one thread, or greenlet. Blocks
    for two round trips a message.

    Raises ConfigurationError for what is no such connection. Publishing raises it where the connection is in
    no transaction or on another database, and DatabaseRejected where the server refuses the message: then the
    transaction can only be rolled back.
    """
    enlistment = Enlistment(connection)
    with opened(enlistment):
        try:
            yield
        finally:
            enlistment.end()


class Enlistment:
    """Stands where an `Outbox` would: it does not gather messages, it stores them at once."""

    def __init__(self, connection: Any) -> None:
        self._execute = _executor(connection)
        self._ready: dict[Commands, _Session] = {}
        self._ended = False

    def end(self) -> None:
        """A greenlet that was spawned meanwhile has a copy of the context: it publishes as ever now."""
        self._ended = True

    def takes(self, _place: object) -> bool:
        return not self._ended

    def put(self, outgoing: Outgoing, token: PublishToken, commands: Commands) -> Routed:
        """Store it; raises as `enlist` tells, and NotFound for an exchange that does not exist."""
        if commands not in self._ready:
            self._ready[commands] = _prepared(self._execute, commands)
        session = self._ready[commands]
        rows = session.run(*outgoing.call(commands.durable))
        routed = read_routed(outgoing, rows)
        for call in commands.bells(outgoing, routed):
            session.run(*call)
        token.settled = True
        return routed


def _prepared(execute: Execute, commands: Commands) -> _Session:
    """Raises ConfigurationError where the application's connection may not carry these messages."""
    session = _Session(execute, commands.session.schema)
    facts = session.run(sql.FACTS, ())
    session.role = facts.text(0, 2) or ""
    if session.run(sql.BEGAN, ()).text(0, 0) != facts.text(0, 3):
        raise ConfigurationError(
            "the connection that enlist() was given is in no transaction: begin one first (a Session of "
            "SQLAlchemy does, unless it is in AUTOCOMMIT; Django has atomic(), psycopg transaction())"
        )
    ours = commands.run((sql.FACTS, ()))[0]
    if ours.text(0, 0) != facts.text(0, 0):
        raise ConfigurationError(
            f"the connection that enlist() was given is on the database {facts.text(0, 1)}, and the broker "
            f"on another one, {ours.text(0, 1)}: let broker_url name the database of the application"
        )
    return session


class _Session:
    """Runs our statements over the application's connection."""

    def __init__(self, execute: Execute, schema: str) -> None:
        self._execute = execute
        self._schema = schema
        self.role = ""

    def run(self, statement: Statement, values: Sequence[object]) -> Rows:
        named = {f"p{number}": _parameter(value) for number, value in enumerate(values, 1)}
        try:
            rows = self._execute(_text(statement, self._schema), named)
        except Exception as exc:
            said = _of_driver(exc)
            if said is None:
                raise
            state = said.sqlstate if hasattr(said, "sqlstate") else said.pgcode
            # Its first sentence alone, and without SQLAlchemy's words: those quote the message that is sent.
            error = refused(state, said.diag.message_primary, schema=self._schema, role=self.role)
            if isinstance(error, DatabaseUnavailable):
                # kombu would connect anew, and publish again.
                error = DatabaseRejected(str(error), state)
            raise error from said
        return cast("Rows", _Answer(rows))


class _Answer:
    """`Rows` of values that a driver has read."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self._rows = rows
        self.count = len(rows)

    def raw(self, row: int, column: int) -> Any:
        return self._rows[row][column]

    text = integer = flag = raw


_text = lru_cache(maxsize=64)(sql.pyformat)


def _parameter(value: object) -> str | bytes | None:
    """As a text whose type the statement tells, so that no driver's own idea of types comes in between."""
    if value is None or isinstance(value, bytes):
        return value
    encoded = encode(value)
    return None if encoded is None else encoded.decode()


def _executor(connection: Any) -> Execute:
    if hasattr(connection, "sync_session") or hasattr(connection, "sync_connection"):
        raise ConfigurationError(
            "enlist() cannot wait for an asynchronous session: call it, and delay(), inside run_sync(), with "
            "the Session that is given there"
        )
    if hasattr(connection, "exec_driver_sql"):
        return _of_sqlalchemy(lambda: connection)
    if hasattr(connection, "get_bind") and hasattr(connection, "connection"):
        return _of_sqlalchemy(connection.connection)
    if not (hasattr(connection, "cursor") and hasattr(connection, "commit")):
        raise ConfigurationError(f"{type(connection).__name__} is no connection that carries tasks: {_TAKES}")
    if iscoroutinefunction(connection.commit):
        raise ConfigurationError(f"enlist() cannot wait for an asynchronous connection: {_TAKES}")

    def execute(statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return _tuples(cursor.fetchall())

    return execute


def _of_sqlalchemy(connected: Callable[[], Any]) -> Execute:
    def execute(statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        connection = connected()
        if connection.dialect.paramstyle != "pyformat" or connection.dialect.name != "postgresql":
            raise ConfigurationError(
                f"enlist() cannot use the driver {connection.dialect.driver} of "
                f"{connection.dialect.name}: {_TAKES}"
            )
        return cast("Sequence[Sequence[Any]]", connection.exec_driver_sql(statement, values).fetchall())

    return execute


def _tuples(rows: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """Also of an application whose rows are dictionaries: they keep the order, and lose no column of ours."""
    return [tuple(row.values()) if hasattr(row, "values") else row for row in rows]


def _of_driver(exc: BaseException | None) -> Any:
    """The driver's own error in that of SQLAlchemy or Django; None where the server said nothing."""
    while exc is not None:
        if getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None):
            return exc
        exc = getattr(exc, "orig", None) or exc.__cause__
    return None
