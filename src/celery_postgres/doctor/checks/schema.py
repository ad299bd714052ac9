"""Whether the tables are those that this release was written for, and still as it made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres import schema as installer
from celery_postgres.doctor.finding import OK, PROBLEM, WARNING, Finding
from celery_postgres.errors import SchemaError
from celery_postgres.purposes import SEQUENCES, VIEWS
from celery_postgres.rights import identifier, migrate_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.doctor.patient import Patient

# One row for each thing: kind, table, name; for columns the type and whether it may be NULL.
_FOUND = """WITH space AS (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
SELECT 'table', c.relname::text, '', c.relpersistence::text, false
  FROM pg_class c JOIN space ON c.relnamespace = space.oid WHERE c.relkind = 'r'
UNION ALL
SELECT 'view', c.relname::text, '', '', false
  FROM pg_class c JOIN space ON c.relnamespace = space.oid WHERE c.relkind = 'v'
UNION ALL
SELECT 'sequence', c.relname::text, '', '', false
  FROM pg_class c JOIN space ON c.relnamespace = space.oid WHERE c.relkind = 'S'
UNION ALL
SELECT 'column', c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull
  FROM pg_class c JOIN space ON c.relnamespace = space.oid JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'index', t.relname::text, i.relname::text, CASE WHEN x.indisvalid THEN 'valid' ELSE 'invalid' END,
       x.indisunique
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
  JOIN space ON t.relnamespace = space.oid
UNION ALL
SELECT 'constraint', t.relname::text, c.conname::text, '', c.convalidated
  FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN space ON t.relnamespace = space.oid
 WHERE c.contype IN ('p', 'u', 'f', 'c')
UNION ALL
SELECT 'trigger', t.relname::text, g.tgname::text, '', false
  FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid JOIN space ON t.relnamespace = space.oid
 WHERE NOT g.tgisinternal
UNION ALL
SELECT 'row security', t.relname::text, '', '', false
  FROM pg_class t JOIN space ON t.relnamespace = space.oid WHERE t.relrowsecurity"""


def check(patient: Patient) -> Iterator[Finding]:
    found, name = patient.server.schema_version, patient.schema
    migrate = f"`{migrate_command(name)}`"
    try:
        state = installer.verdict(found)
    except SchemaError as exc:
        said, _, remedy = str(exc).partition(": ")
        yield Finding("schema", PROBLEM, said, remedy, {"version": found})
        return
    figures = {"version": found, "wanted": installer.VERSION}
    if state == "missing":
        yield Finding("schema", PROBLEM, f"there is no schema {name} with our tables", migrate, figures)
        return
    if state == "outdated":
        yield Finding(
            "schema",
            WARNING if patient.options.auto_migrate else PROBLEM,
            f"{name} has version {found}, this release wants {installer.VERSION}",
            migrate,
            figures,
        )
        return
    if found != installer.VERSION:  # a later step of the same generation, which this release works with
        yield Finding("schema", OK, f"{name} has version {found}, of a later release", figures=figures)
        return
    changed = list(_changes(patient))
    for severity, said, remedy in changed:
        yield Finding("schema", severity, said, remedy, figures)
    if not changed:
        yield Finding("schema", OK, f"{name} has version {found}, as it was made", figures=figures)


def _changes(patient: Patient) -> Iterator[tuple[str, str, str]]:
    expected = _expected(patient.schema)
    rows = patient.rows(_FOUND, {"schema": patient.schema})
    found = {(kind, table, name): (what, flag) for kind, table, name, what, flag in rows}
    ours = {table for kind, table, _ in expected if kind == "table"}
    damaged = (
        "restore it as the migrations made it: their SQL is printed by "
        f"`{migrate_command(patient.schema, role=patient.role)}`"
    )
    for key, wanted in expected.items():
        kind, table, name = key
        what = f"{kind} {name or table}" + (f" of {table}" if name else "")
        if ("table", table, "") not in found and key != ("table", table, "") and table in ours:
            continue  # with its table
        if key not in found:
            yield PROBLEM, f"the {what} is missing", damaged
        elif wanted is not None and found[key] != wanted:
            is_, was = found[key], wanted
            if kind == "table":
                yield PROBLEM, *_persistence(patient, table, is_[0])
            elif kind == "index" and is_[0] == "invalid":
                yield PROBLEM, f"the {what} is invalid", f"REINDEX INDEX {identifier(patient.schema, name)};"
            else:
                yield PROBLEM, f"the {what} is {_told(is_)}, and was made as {_told(was)}", damaged
    for kind, table, name in sorted(set(found) - set(expected)):
        if table not in ours:
            continue
        target = identifier(patient.schema, table)
        if kind == "trigger":
            drop = f"DROP TRIGGER {identifier(name)} ON {target};"
            yield WARNING, f"a trigger {name} was added to {table}: it runs with every message", drop
        elif kind == "row security":
            yield (
                WARNING,
                f"row security is on for {table}: roles may not see all messages",
                f"ALTER TABLE {target} DISABLE ROW LEVEL SECURITY;",
            )
        elif kind == "column" and not found[kind, table, name][1]:
            yield WARNING, f"a column {name} that must not be NULL was added to {table}", damaged


def _persistence(patient: Patient, table: str, is_: str) -> tuple[str, str]:
    target = identifier(patient.schema, table)
    if is_ == "u":
        said = f"the table {table} is unlogged: a crash of the server empties it"
        return said, f"ALTER TABLE {target} SET LOGGED;"
    said = f"the table {table} is logged, which costs and gives nothing"
    return said, f"ALTER TABLE {target} SET UNLOGGED;"


def _told(what: tuple[str, bool]) -> str:
    return f"{what[0]}{', may be NULL' if what[1] else ''}"


def _expected(schema: str) -> dict[tuple[str, str, str], tuple[str, bool] | None]:
    """From `tables.py`; None where it is enough that it is there."""
    from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint
    from sqlalchemy.dialects import postgresql

    from celery_postgres.tables import metadata

    wanted: dict[tuple[str, str, str], tuple[str, bool] | None] = {
        **{("view", view, ""): None for view in VIEWS},
        **{("sequence", sequence, ""): None for sequence in SEQUENCES},
    }
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata(schema).tables.values():
        unlogged = "UNLOGGED" in table._prefixes  # noqa: SLF001 - nothing else tells
        wanted["table", table.name, ""] = ("u" if unlogged else "p", False)
        for column in table.columns:
            type_ = column.type.compile(dialect).lower()
            type_ = "timestamp with time zone" if type_.startswith("timestamp") else type_
            wanted["column", table.name, column.name] = (type_, bool(column.nullable))
        for index in table.indexes:
            wanted["index", table.name, str(index.name)] = ("valid", index.unique)
        for constraint in table.constraints:
            if isinstance(constraint, (PrimaryKeyConstraint, UniqueConstraint)) and constraint.name:
                wanted["constraint", table.name, str(constraint.name)] = None
                wanted["index", table.name, str(constraint.name)] = ("valid", True)
    return wanted
