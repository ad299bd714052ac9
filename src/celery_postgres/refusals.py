"""What a server refuses, as our errors: whether a retry can help, and what to do.

A statement is judged by its SQLSTATE, see `sqlstates.TABLE`. For a refused connection libpq hands out the
server's sentence alone, so the sentences that tell of a wrong configuration are listed here, as a server that
speaks English says them. Any other, also one in another language, counts as "not now": it is worth a retry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg

from .errors import ConfigurationError, DatabaseRejected, DatabaseUnavailable, Error, SchemaError
from .rights import grants_command, identifier, migrate_command, missing_grants
from .sqlstates import Reaction, reaction

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from .dsn import Dsn

__all__ = ["not_connected", "one_line", "refused", "translate"]

_NO_SLOT = "53300"
_READS_ONLY = "25006"

# Of what the server's own sentence does not say.
_REMEDIES = (
    ("53100", "free space on the server's disk"),
    ("53200", "give the server more memory, or its sessions less of it"),
    ("53", "raise that limit of the server, or of the role"),
    ("58", "look into the server's log and after its disk"),
    ("XX", "look into the server's log, and have its disk and indexes checked"),
    ("55P03", "find in pg_locks who holds the lock, or raise lock_timeout"),
    ("57014", "look for what slows the server down, or raise statement_timeout"),
)

# In the remedies stand {user}, {database}, and quoted for SQL {USER} and {DATABASE}.
_CREATE = "create it: CREATE DATABASE {DATABASE} ENCODING 'UTF8' TEMPLATE template0"
_TLS = "correct sslmode, sslrootcert and the like in the URL"
_MISTAKES = (
    (r"(password|SASL) authentication failed", "correct user or password of {user}"),
    (r"no password supplied", "give a password in the URL, in PGPASSWORD or in a password file"),
    (r"(peer|ident|certificate) authentication failed", "let pg_hba.conf admit {user}, or give a password"),
    (r"no pg_hba.conf entry|pg_hba.conf rejects", "let pg_hba.conf admit {user}, or try sslmode=require"),
    (r"role .* is not permitted to log in", "let it: ALTER ROLE {USER} LOGIN"),
    (r"role .* does not exist|no such user", "correct the user, or create it: CREATE ROLE {USER} LOGIN"),
    (r"database .* does not exist|no such database", f"correct the database, or {_CREATE}"),
    (r"permission denied for database", "let it in: GRANT CONNECT ON DATABASE {DATABASE} TO {USER}"),
    (r"unsupported startup parameter", "remove `options` from the URL, which a pooler does not pass on"),
    (r"unrecognized configuration parameter|invalid value for parameter", "correct `options` in the URL"),
    (r"does not support SSL|certificate verify failed|root certificate file|server certificate for", _TLS),
    (r"connection is bad: (invalid|definition of service)", "correct that parameter of the URL"),
)
_CROWDED = "too many (clients|connections)|connection slots|no more connections"
_ONLY_READS = "session is read-only|hot standby mode|not in hot standby|recovery"
_MORE_ROOM = (
    "raise max_connections of the server or the CONNECTION LIMIT of role and database, or run fewer processes"
)
_PRIMARY_WANTED = "connect to the primary, or name all hosts with target_session_attrs=read-write"
_NOBODY_THERE = "start the server, or correct host and port in the URL"


def not_connected(exc: psycopg.Error, dsn: Dsn) -> Error:
    """The error that a failed attempt to connect becomes."""
    said = one_line(exc).removeprefix("connection failed: ")
    where = f"cannot connect to {dsn.masked()}: {said}"
    for sentence, remedy in _MISTAKES:
        if re.search(sentence, said, re.IGNORECASE):
            return ConfigurationError(f"{where}: {remedy.format_map(_names(exc, dsn))}")
    if re.search(_CROWDED, said):
        return DatabaseUnavailable(f"{where}: {_MORE_ROOM}", _NO_SLOT)
    if re.search(_ONLY_READS, said):
        return DatabaseUnavailable(f"{where}: {_PRIMARY_WANTED}", _READS_ONLY)
    return DatabaseUnavailable(f"{where}: {_NOBODY_THERE}")


def _names(exc: psycopg.Error, dsn: Dsn) -> dict[str, str]:
    """User and database as libpq took them, which may come from its own defaults."""
    user, database = dsn.conninfo.get("user", ""), dsn.conninfo.get("dbname", "")
    if exc.pgconn is not None:
        user = exc.pgconn.user.decode(errors="replace") or user
        database = exc.pgconn.db.decode(errors="replace") or database
    return {
        "user": user,
        "database": database,
        "USER": identifier(user),
        "DATABASE": identifier(database),
    }


def translate(result: PGresult, *, schema: str, role: str, prepared: bool = False) -> Error:
    """The error that a failed statement becomes; `prepared` tells that its session prepares statements."""
    field = psycopg.pq.DiagnosticField
    state = (result.error_field(field.SQLSTATE) or b"").decode()
    said = (result.error_field(field.MESSAGE_PRIMARY) or b"").decode(errors="replace")
    return refused(state, said, schema=schema, role=role, prepared=prepared)


def refused(state: str, said: str, *, schema: str, role: str, prepared: bool = False) -> Error:
    """The same, by its SQLSTATE and never by its text."""
    what = reaction(state)
    if what is Reaction.STOP:
        return _misconfigured(state, said, schema, role)
    if state == _READS_ONLY:
        return DatabaseUnavailable(
            f"{said} ({state}): this server or this role only reads: {_PRIMARY_WANTED}", state
        )
    if what is Reaction.RECONNECT or (what is Reaction.UNPREPARE and prepared):
        return DatabaseUnavailable(f"{said} ({state})", state)
    remedy = next((f": {help_}" for code, help_ in _REMEDIES if state.startswith(code)), "")
    return DatabaseRejected(f"{said} ({state}){remedy}", state)


def _misconfigured(state: str, said: str, schema: str, role: str) -> ConfigurationError:
    if state == "42501":
        return ConfigurationError(
            f"{said}: as the owner of schema {schema} run: {missing_grants(said, schema, role)} "
            f"All that a role needs is printed by `{grants_command(schema)}`"
        )
    if state.startswith(("28", "3D")):
        return ConfigurationError(f"{said} ({state}): correct user, password or database in the URL")
    return SchemaError(
        f"{said}: run `{migrate_command(schema)}`; should it find nothing to do, the schema is damaged: "
        f"DROP SCHEMA {identifier(schema)} CASCADE first, which deletes all messages"
    )


def one_line(exc: BaseException) -> str:
    """What a driver's exception says."""
    return " ".join(str(exc).split())
