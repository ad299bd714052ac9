"""The administrator of a database, who can do everything, and how clients see what they may not do."""

from __future__ import annotations

import re
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
from kombu import Connection

from tests.fixtures.canary import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Admin:
    """Runs statements as the user of the URL, which is a superuser's."""

    url: str

    @property
    def database(self) -> str:
        return urlsplit(self.url).path[1:]

    @property
    def user(self) -> str:
        return urlsplit(self.url).username or ""

    @property
    def password(self) -> str:
        return unquote(urlsplit(self.url).password or "")

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Execute; the rows of the last statement."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def url_of(self, role: str, password: str = CANARY, database: str | None = None) -> str:
        """The URL with which a role comes to this database, or to another."""
        parts = urlsplit(self.url)
        where = f"{quote(role, safe='')}:{quote(password, safe='')}@{parts.hostname}:{parts.port or 5432}"
        path = parts.path if database is None else f"/{quote(database)}"
        return parts._replace(netloc=where, path=path).geturl()

    def schemas(self) -> set[str]:
        """The schemas that are not PostgreSQL's own."""
        rows = self.run(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$|public$)'"
        )
        return {row[0] for row in rows}

    def stored(self, schema: str = "celery") -> dict[str, int]:
        """How many rows each table has in which a message, or a part of it, could lie."""
        tables = ("message", "ready", "unacked", "delayed", "dead_letter", "broadcast")
        return {table: self.run(f'SELECT count(*) FROM "{schema}".{table}')[0][0] for table in tables}

    def sessions_of(self, role: str) -> int:
        """How many sessions a role has."""
        return int(self.run(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'")[0][0])


@dataclass
class Refusal:
    """What a client was told: the error, and all that a traceback would print."""

    error: Exception | None = None
    shown: str = field(default="", repr=False)

    def __str__(self) -> str:
        return str(self.error)

    def matches(self, pattern: str) -> bool:
        """Whether the message has it; a message is one line."""
        return re.search(pattern, str(self.error)) is not None and "\n" not in str(self.error)


@contextmanager
def refusal(kind: type[Exception]) -> Iterator[Refusal]:
    """Expects an error of just this class, whose whole chain shows no password."""
    refusal = Refusal()
    try:
        yield refusal
    except kind as error:
        if type(error) is not kind:
            raise
        refusal.error = error
        refusal.shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if refusal.error is None:
        raise AssertionError(f"no {kind.__name__}")
    assert CANARY not in refusal.shown


def connect(url: str, **options: Any) -> None:
    """Connect with kombu and leave again."""
    with Connection(url, **options) as connection:
        connection.connect()


def publish(url: str, payload: Any = 1, queue: str = "celery", **options: Any) -> None:
    """Declare a queue and publish one message to it."""
    with Connection(url, **options) as connection:
        connection.SimpleQueue(queue).put(payload)


def take(url: str, queue: str = "celery", **options: Any) -> Any:
    """Consume one message and acknowledge it."""
    with Connection(url, **options) as connection:
        message = connection.SimpleQueue(queue).get(timeout=10)
        message.ack()
        return message.payload
