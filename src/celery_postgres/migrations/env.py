"""How alembic runs a revision: in the caller's transaction, or as SQL text."""

from __future__ import annotations

from alembic import context

config = context.config
schema = config.attributes["schema"]
connection = config.attributes.get("connection")

if connection is None:
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        version_table="schema_version",
        version_table_schema=schema,
    )
else:
    context.configure(
        connection=connection,
        version_table="schema_version",
        version_table_schema=schema,
    )

with context.begin_transaction():
    context.run_migrations()
