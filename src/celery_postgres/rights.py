"""The rights that workers and publishers need, and no more: nothing here lets a role change a table."""

from __future__ import annotations

import shlex

from psycopg import sql

__all__ = ["grants", "identifier", "migrate_command"]

_DEFAULT_SCHEMA = "celery"


def identifier(name: str) -> str:
    """A name quoted as SQL wants it."""
    return sql.Identifier(name).as_string()


def grants(schema: str, role: str) -> list[str]:
    """The statements that give a role what it needs at run time, for the owner of the schema to execute."""
    ours, theirs = identifier(schema), identifier(role)
    return [
        f"GRANT USAGE ON SCHEMA {ours} TO {theirs};",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {ours} TO {theirs};",
        f"REVOKE INSERT, UPDATE, DELETE ON {ours}.schema_version FROM {theirs};",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {ours} TO {theirs};",
    ]


def migrate_command(schema: str, *, role: str | None = None) -> str:
    """What to type to set the schema up; with a role, to print that as SQL with the role's grants.

    The database is the one of DATABASE_URL, or what `--url` names.
    """
    words = ["celery-postgres", "migrate"]
    if schema != _DEFAULT_SCHEMA:
        words[1:1] = ["--schema", schema]
    if role is not None:
        words += ["--sql", "--role", role]
    return shlex.join(words)
