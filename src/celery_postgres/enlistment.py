"""Publishing inside a transaction of the application: what it sends exists once that commits, and not before.

It goes over the application's own connection, whatever driver that has, so nothing here is on the hot path.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol, cast

import psycopg
from psycopg.rows import tuple_row

from .encoding import encode
from .errors import ConfigurationError, DatabaseRejected, DatabaseUnavailable
from .messages import read_routed
from .outbox import opened
from .refusals import one_line, refused
from .sql import enlistment as sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .commands import Commands
    from .delivery import PublishToken
    from .encoding import Rows
    from .messages import Outgoing, Routed
    from .sql import Statement

#: Of a connection, as both drivers and libpq tell it: no transaction is open.
_IDLE = 0

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
    for events and for commands to workers. Not for the retry or the replacement of the task that runs here,
    which has to outlive a rollback. Queues are declared outside of the transaction, and what chords keep of
    themselves is stored there. For the thread, or greenlet, that enters the block. Blocks for two round trips
    a message.

    Raises ConfigurationError for what is no such connection. Publishing raises it where the connection is in
    no transaction, is on another database or does not see the queue, and DatabaseRejected where the server
    refuses the message or is gone: then the transaction can only be rolled back.
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
        self._carrier = _carrier(connection)
        self._ready: dict[Commands, _Session] = {}
        self._owner = _current_strand()
        self._ended = False

    def end(self) -> None:
        """Who has a copy of the context publishes as ever now."""
        self._ended = True

    def takes(self, _place: object) -> bool:
        return not self._ended and self._owner == _current_strand()

    def put(self, outgoing: Outgoing, token: PublishToken, commands: Commands) -> Routed:
        """Store it; raises as `enlist` tells, and NotFound for an exchange that does not exist."""
        if _goes_on_with_this_task(outgoing):
            routed = commands.publish(outgoing)
            token.settled = True
            return routed
        if commands not in self._ready:
            self._ready[commands] = _prepared(self._carrier, commands)
        session = self._ready[commands]
        session.demand_transaction()
        routed = read_routed(outgoing, session.run(*outgoing.call(commands.commit(outgoing))))
        if outgoing.exchange or not routed.queues:
            session.demand_sight(outgoing, routed, commands)
        for call in commands.follow(outgoing, routed):
            session.run(*call)
        token.settled = True
        return routed


def _current_strand() -> tuple[int, int]:
    """What a copy of the context does not share: the thread, and the greenlet where there are some."""
    greenlet = sys.modules.get("greenlet")
    return threading.get_ident(), id(greenlet.getcurrent()) if greenlet is not None else 0


def _goes_on_with_this_task(outgoing: Outgoing) -> bool:
    """Whether it is the retry or the replacement of the task that runs here, which ends by an exception.

    That rolls the transaction back, while Celery takes the task itself for settled.
    """
    state = sys.modules.get("celery._state")
    task = state.get_current_task() if state is not None else None
    return task is not None and outgoing.task_id is not None and task.request.id == outgoing.task_id


def _prepared(carrier: _Carrier, commands: Commands) -> _Session:
    """Raises ConfigurationError where the application's connection may not carry these messages."""
    session = _Session(carrier, commands.session.schema)
    facts = session.run(sql.FACTS, ())
    session.role = facts.text(0, 2) or ""
    ours = commands.run((sql.FACTS, ()))[0]
    if ours.text(0, 0) != facts.text(0, 0):
        raise ConfigurationError(
            f"the connection that enlist() was given is on the database {facts.text(0, 1)}, and the broker "
            f"on another one, {ours.text(0, 1)}: let broker_url name the database of the application"
        )
    return session


class _Session:
    """Runs our statements over the application's connection."""

    def __init__(self, carrier: _Carrier, schema: str) -> None:
        self._carrier = carrier
        self._schema = schema
        self.role = ""

    def run(self, statement: Statement, values: Sequence[object]) -> Rows:
        named = {f"p{number}": _parameter(value) for number, value in enumerate(values, 1)}
        try:
            rows = self._carrier.execute(_text(statement, self._schema), named)
        except Exception as exc:
            said = _of_driver(exc)
            if said is None:
                raise
            # Its first sentence alone, and without SQLAlchemy's words: those quote the message that is sent.
            state = getattr(said, "sqlstate", None) or getattr(said, "pgcode", None)
            if state is None:
                raise DatabaseRejected(f"the application's connection failed: {one_line(said)}") from said
            error = refused(state, said.diag.message_primary, schema=self._schema, role=self.role)
            if isinstance(error, DatabaseUnavailable):
                # kombu would connect anew, and publish again.
                error = DatabaseRejected(str(error), state)
            raise error from said
        return cast("Rows", _Answer(rows))

    def demand_transaction(self) -> None:
        """Before each message: a transaction may have ended within the block."""
        inside = self._carrier.in_transaction()
        if inside is None:
            inside = self.run(sql.BEGAN, ()).text(0, 0) == self.run(sql.BEGAN, ()).text(0, 0)
        if not inside:
            raise ConfigurationError(
                "the connection that enlist() was given is in no transaction: begin one first (a Session of "
                "SQLAlchemy does, unless it is in AUTOCOMMIT; Django has atomic(), psycopg transaction())"
            )

    def demand_sight(self, outgoing: Outgoing, routed: Routed, commands: Commands) -> None:
        """Raises ConfigurationError if the transaction is too old to see a queue where the message goes."""
        if self.run(sql.ISOLATION, ()).text(0, 0) == "read committed":
            return
        topology = commands.topology
        if outgoing.exchange:
            topology.require_exchange(outgoing.exchange)
            found = topology.routes(outgoing.exchange, outgoing.routing_key)
            if routed.exchange_exists and found <= set(routed.queues.values()):
                return
        elif topology.find(outgoing.routing_key) is None:
            return
        raise ConfigurationError(
            f"the transaction does not see the queue of {outgoing.exchange or outgoing.routing_key!r}, which "
            "was declared after it began: declare queues before, as any task that is sent does, or use the "
            "isolation level READ COMMITTED"
        )


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


class _Carrier(Protocol):
    """The application's connection, whatever it is."""

    def execute(self, statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """The rows; raises what the driver raises."""

    def in_transaction(self) -> bool | None:
        """Whether what is executed next is in a transaction; None where that cannot be told."""


def _carrier(connection: Any) -> _Carrier:
    if any(hasattr(connection, name) for name in ("sync_session", "sync_connection")) or iscoroutinefunction(
        getattr(connection, "commit", None)
    ):
        raise ConfigurationError(
            "enlist() cannot wait for what is asynchronous: call it, and delay(), inside run_sync() of an "
            "AsyncSession, with the Session that is given there"
        )
    if hasattr(connection, "exec_driver_sql"):
        return _SqlAlchemy(lambda: connection)
    if hasattr(connection, "get_bind") and hasattr(connection, "connection"):
        return _SqlAlchemy(connection.connection)
    if isinstance(connection, psycopg.Connection):
        return _Driver(connection, lambda: psycopg.Cursor(connection, row_factory=tuple_row))
    psycopg2 = sys.modules.get("psycopg2.extensions")
    if psycopg2 is not None and isinstance(connection, psycopg2.connection):
        return _Driver(connection, lambda: connection.cursor(cursor_factory=psycopg2.cursor))
    if hasattr(connection, "ensure_connection") and hasattr(connection, "cursor"):
        return _Django(connection)
    raise ConfigurationError(f"{type(connection).__name__} is no connection that carries tasks: {_TAKES}")


class _Driver:
    """A connection of psycopg or psycopg2; not by its own cursors, whose rows may be anything."""

    def __init__(self, connection: Any, cursor: Callable[[], Any]) -> None:
        self._connection = connection
        self._cursor = cursor

    def execute(self, statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        with self._cursor() as cursor:
            cursor.execute(statement, values)
            return cast("Sequence[Sequence[Any]]", cursor.fetchall())

    def in_transaction(self) -> bool | None:
        return _in_transaction(self._connection)


class _Django:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cast("Sequence[Sequence[Any]]", cursor.fetchall())

    def in_transaction(self) -> bool | None:
        return _in_transaction(self._connection.connection)


class _SqlAlchemy:
    def __init__(self, connected: Callable[[], Any]) -> None:
        self._connected = connected

    def execute(self, statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        connection = self._connected()
        if connection.dialect.paramstyle != "pyformat" or connection.dialect.name != "postgresql":
            raise ConfigurationError(
                f"enlist() cannot use the driver {connection.dialect.driver} of "
                f"{connection.dialect.name}: {_TAKES}"
            )
        return cast("Sequence[Sequence[Any]]", connection.exec_driver_sql(statement, values).fetchall())

    def in_transaction(self) -> bool | None:
        return _in_transaction(self._connected().connection.driver_connection)


def _in_transaction(connection: Any) -> bool | None:
    """Of the driver's own: psycopg's and psycopg2's tell, and begin one unless they are in autocommit."""
    try:
        return not connection.autocommit or connection.info.transaction_status != _IDLE
    except AttributeError:
        return None


def _of_driver(exc: BaseException) -> Any:
    """The driver's own error in that of SQLAlchemy or Django; None where no driver has raised it."""
    driver = getattr(exc, "orig", None)  # SQLAlchemy's
    if driver is None and type(exc).__module__ == "django.db.utils":
        driver = exc.__cause__
    if driver is not None:
        return driver
    return exc if hasattr(exc, "sqlstate") or hasattr(exc, "pgcode") else None
