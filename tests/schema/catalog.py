"""What a schema consists of, as the server's catalog tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterable

_OBJECTS = {
    "relation": """SELECT relname, relkind, relpersistence, reloptions::text, obj_description(c.oid)
        FROM pg_class c WHERE relnamespace = {s}""",
    "column": """SELECT relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
             pg_get_expr(adbin, adrelid), col_description(c.oid, attnum)
        FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid
        LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum
       WHERE relnamespace = {s} AND relkind = 'r' AND attnum > 0 AND NOT attisdropped""",
    "constraint": """SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = {s} AND contype <> 'n'""",
    "index": """SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid)
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = {s}""",
    "view": """SELECT relname, pg_get_viewdef(oid) FROM pg_class
       WHERE relnamespace = {s} AND relkind = 'v'""",
    "sequence": """SELECT sequencename, data_type::text, start_value, increment_by, cycle
        FROM pg_sequences WHERE schemaname = %(schema)s""",
    "function": "SELECT proname FROM pg_proc WHERE pronamespace = {s}",
    "type": "SELECT typname FROM pg_type WHERE typnamespace = {s}",
}


def describe(url: str, schema: str) -> set[tuple[object, ...]]:
    """Every object of the schema with all that makes it what it is; the schema's own name stands as `S`."""
    found: set[tuple[object, ...]] = set()
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = pg_catalog")
        oid = "(SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)"
        for kind, query in _OBJECTS.items():
            rows = connection.execute(query.format(s=oid).encode(), {"schema": schema})
            found |= {(kind, *_renamed(row, schema)) for row in rows}
    return found


def _renamed(row: Iterable[object], schema: str) -> Iterable[object]:
    for value in row:
        if isinstance(value, str):
            value = value.replace(f'"{schema}".', "S.").replace(f"{schema}.", "S.")
        yield value


def traces(url: str) -> set[str]:
    """What an installation could leave behind outside its schema."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
         UNION SELECT 'event trigger ' || evtname FROM pg_event_trigger
         UNION SELECT 'extension ' || extname FROM pg_extension
         UNION SELECT 'default rights of ' || defaclrole::regrole FROM pg_default_acl
         UNION SELECT 'setting ' || setconfig::text FROM pg_db_role_setting
                WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        )
        return {str(row[0]) for row in rows}
