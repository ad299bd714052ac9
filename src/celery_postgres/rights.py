"""The rights that workers and publishers need, and no more: nothing here lets a role change a table."""

from __future__ import annotations

from psycopg import sql

__all__ = ["grants", "identifier"]


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
