"""The way past a pooler, for sessions that must stay one and the same.

Through a transaction pooler a session hears no notification and holds no lock. With the option `session_dsn`
those that need both (claims, the maintenance, who waits for results) are opened there, while everything else
goes on through the pooler. What `session_dsn` leaves out is taken from the URL that it belongs to, so it need
not hold a password. Both must lead to the same database, or workers would wait for ever for what is published
elsewhere: that is checked once in a process.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import dsn
from .connection import Database
from .dsn import Dsn
from .errors import ConfigurationError
from .options import Options
from .sql import Statement

if TYPE_CHECKING:
    from .connection import Server
    from .wire import Session

_PLACES = ("host", "hostaddr", "port", "service")

#: What tells one database of one server from all others; a standby that was promoted has the same.
_IDENTITY = Statement(
    "identity",
    """SELECT system_identifier::text || '/' || d.oid::text
  FROM pg_control_system(), pg_database d WHERE d.datname = current_database()""",
)

# Pairs of addresses that were seen to lead to the same database.
_same: set[tuple[Dsn, Dsn]] = set()


def for_sessions(database: Database) -> Database:
    """Where sessions are opened that must stay their own; the database itself without `session_dsn`.

    Raises ConfigurationError for an address that cannot be used.
    """
    given = database.options.session_dsn
    return database if given is None else _Direct(database, given)


class _Direct(Database):
    def __init__(self, through: Database, given: str) -> None:
        address = dsn.parse(given)
        own = Options.parse(_options(address), "session_dsn")
        options = replace(through.options, session_dsn=None, pooled=own.pooled)
        super().__init__(_completed(address, through.dsn), options, connect_timeout=through.connect_timeout)
        self._through = through

    def open(self) -> tuple[Session, Server]:
        session, server = super().open()
        pair = self._through.dsn, self.dsn
        if pair not in _same:
            try:
                self._compare(session)
            except BaseException:
                session.close()
                raise
            _same.add(pair)
        return session, server

    def _compare(self, session: Session) -> None:
        other, _ = self._through.open()
        try:
            here, there = _identity(session), _identity(other)
        finally:
            other.close()
        if here != there:
            raise ConfigurationError(
                f"session_dsn leads to {self.dsn.masked()}, which is another database than "
                f"{self._through.dsn.masked()}: workers would not find what is published there: correct its "
                "host, port or database"
            )


def _identity(session: Session) -> str | None:
    try:
        return session.run((_IDENTITY, ()), timeout=10)[0].text(0, 0)
    except ConfigurationError:  # somebody took the right away that everybody has: then it cannot be told
        return None


def _options(address: Dsn) -> dict[str, str]:
    """The options in it; of those, a session has a say about the pooler alone."""
    wrong = sorted(set(address.options) - {"pooled", "connect_timeout"})
    if wrong:
        raise ConfigurationError(
            f"session_dsn holds the option {wrong[0]!r}: write it into the URL or the transport options that "
            "session_dsn belongs to"
        )
    return {"pooled": address.options["pooled"]} if "pooled" in address.options else {}


def _completed(address: Dsn, other: Dsn) -> Dsn:
    """What the address leaves out, as the other one has it; a password only for the same user."""
    if not any(address.conninfo.get(name) for name in _PLACES if name != "port"):
        raise ConfigurationError(
            f"session_dsn is {address.masked()}, which names no host: write that of PostgreSQL itself, as in "
            "postgresql://db.internal:5432"
        )
    user = address.conninfo.get("user")
    left = set(_PLACES)
    if user is not None and user != other.conninfo.get("user"):
        left.add("password")
    inherited = {name: value for name, value in other.conninfo.items() if name not in left}
    return Dsn({**inherited, **address.conninfo}, {})
