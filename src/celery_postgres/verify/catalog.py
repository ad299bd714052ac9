"""What the database says of itself: which objects it holds, and what a role may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from celery_postgres.rights import grants, identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from typing_extensions import LiteralString

#: Schemas of verifications, of which two may go on at once, are no part of anybody's application.
PREFIX = "celery_verify_"

# One row for each object outside the schemas of PostgreSQL and of verifications: its kind, its name, and a
# digest of what it is made of. Nothing in it changes by using a table, only by altering it.
_OBJECTS = """
WITH space AS (
    SELECT oid, nspname, nspowner, nspacl FROM pg_namespace
     WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
       AND NOT starts_with(nspname, %(prefix)s) AND nspname <> %(except)s
)
SELECT kind, name, md5(made_of) FROM (
    SELECT 'schema' AS kind, nspname::text AS name, concat_ws(' ', oid, nspowner, nspacl::text) AS made_of
      FROM space
    UNION ALL
    SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'
                          WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' ELSE 'relation' END,
           format('%%I.%%I', s.nspname, c.relname),
           concat_ws(' ', c.oid, c.relkind, c.relowner, c.relacl::text, c.relpersistence, c.reloptions::text,
                     (SELECT string_agg(concat_ws(' ', a.attname, a.atttypid, a.atttypmod, a.attnotnull,
                                                  a.attacl::text), ',' ORDER BY a.attnum)
                        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0))
      FROM pg_class c JOIN space s ON s.oid = c.relnamespace
    UNION ALL
    SELECT 'function',
           format('%%I.%%I(%%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
           concat_ws(' ', p.oid, p.proowner, p.proacl::text, p.prosrc)
      FROM pg_proc p JOIN space s ON s.oid = p.pronamespace
    UNION ALL
    SELECT 'type', format('%%I.%%I', s.nspname, t.typname), concat_ws(' ', t.oid, t.typowner, t.typtype)
      FROM pg_type t JOIN space s ON s.oid = t.typnamespace
    UNION ALL
    SELECT 'constraint', format('%%I.%%I of %%s', s.nspname, c.conname, c.conrelid::regclass),
           concat_ws(' ', c.oid, pg_get_constraintdef(c.oid))
      FROM pg_constraint c JOIN space s ON s.oid = c.connamespace
    UNION ALL
    SELECT 'trigger', format('%%I of %%s', t.tgname, t.tgrelid::regclass), concat_ws(' ', t.oid, t.tgenabled)
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN space s ON s.oid = c.relnamespace
    UNION ALL
    SELECT 'policy', format('%%I of %%s', p.polname, p.polrelid::regclass), concat_ws(' ', p.oid, p.polcmd)
      FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN space s ON s.oid = c.relnamespace
    UNION ALL
    SELECT 'extension', extname, concat_ws(' ', oid, extversion) FROM pg_extension
) AS object"""


def objects(connection: psycopg.Connection[Any], *, outside: str) -> dict[tuple[str, str], str]:
    """Everything that the database holds outside a schema and those of verifications, by kind and name."""
    rows = connection.execute(_OBJECTS, {"prefix": PREFIX, "except": outside})
    return {(kind, name): digest for kind, name, digest in rows}


def differences(before: dict[tuple[str, str], str], after: dict[tuple[str, str], str]) -> list[str]:
    """What came, went or was altered, as people would say it."""
    return [
        *(f"{kind} {name} is new" for kind, name in sorted(after.keys() - before.keys())),
        *(f"{kind} {name} is gone" for kind, name in sorted(before.keys() - after.keys())),
        *(
            f"{kind} {name} was altered"
            for kind, name in sorted(before.keys() & after.keys())
            if before[kind, name] != after[kind, name]
        ),
    ]


@dataclass(frozen=True)
class Role:
    """The role of a connection, and what it may do where."""

    name: str
    database: str
    superuser: bool
    may_create_schemas: bool

    @property
    def grant_create(self) -> str:
        """What lets it create schemas."""
        return f"GRANT CREATE ON DATABASE {identifier(self.database)} TO {identifier(self.name)};"

    def grant_to_fill(self, schema: str) -> str:
        """What lets it create our tables in a schema that exists."""
        return f"GRANT USAGE, CREATE ON SCHEMA {identifier(schema)} TO {identifier(self.name)};"


def role(connection: psycopg.Connection[Any]) -> Role:
    row = connection.execute(
        """SELECT current_user, current_database(), rolsuper,
                  has_database_privilege(current_database(), 'CREATE')
             FROM pg_roles WHERE rolname = current_user"""
    ).fetchone()
    assert row is not None
    return Role(*row)


@dataclass(frozen=True)
class Schema:
    """A schema as a role sees it."""

    exists: bool
    owned: bool = False
    usage: bool = False
    create: bool = False
    relations: int = 0
    """How many tables, views, indexes and the like it holds, whosever."""
    ours: bool = False
    """Whether it holds our table `schema_version`."""
    tables_lacking: tuple[str, ...] = ()
    sequences_lacking: tuple[str, ...] = ()
    tables_owned: bool = True

    def lacking(self, name: str, role: Role) -> list[str]:
        """The GRANTs that are missing for work in a schema that is set up."""
        usage, tables, version, sequences = grants(name, role.name)
        return [
            *([] if self.usage else [usage]),
            *([tables, version] if self.tables_lacking else []),
            *([sequences] if self.sequences_lacking else []),
        ]


def schema(connection: psycopg.Connection[Any], name: str) -> Schema:
    """What a schema holds, and what the connection's role may do in it."""
    row = connection.execute(
        """SELECT oid, pg_has_role(nspowner, 'USAGE'), has_schema_privilege(oid, 'USAGE'),
                  has_schema_privilege(oid, 'CREATE')
             FROM pg_namespace WHERE nspname = %s""",
        (name,),
    ).fetchone()
    if row is None:
        return Schema(exists=False)
    oid, owned, usage, create = row
    tables = connection.execute(
        """SELECT relname, pg_has_role(relowner, 'USAGE'),
                  has_table_privilege(oid, 'SELECT') AND (relname = 'schema_version' OR (
                      has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')
                      AND has_table_privilege(oid, 'DELETE')))
             FROM pg_class WHERE relnamespace = %s AND relkind = 'r' ORDER BY relname""",
        (oid,),
    ).fetchall()
    sequences = connection.execute(
        # That of an identity column needs no right of its own.
        """SELECT c.relname FROM pg_class c
            WHERE c.relnamespace = %s
              AND CASE c.relkind WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE') ELSE false END
              AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'i')
            ORDER BY c.relname""",
        (oid,),
    ).fetchall()
    row = connection.execute("SELECT count(*) FROM pg_class WHERE relnamespace = %s", (oid,)).fetchone()
    relations = row[0] if row else 0
    return Schema(
        exists=True,
        owned=owned,
        usage=usage,
        create=create,
        relations=relations,
        ours=any(table == "schema_version" for table, _, _ in tables),
        tables_lacking=tuple(table for table, _, complete in tables if not complete),
        sequences_lacking=tuple(sequence for (sequence,) in sequences),
        tables_owned=all(mine for _, mine, _ in tables),
    )


def version(connection: psycopg.Connection[Any], name: str) -> str | None:
    """The version of the tables in a schema of ours; None where it holds none."""
    query = sql.SQL("SELECT version_num::text FROM {}").format(sql.Identifier(name, "schema_version"))
    row = connection.execute(query).fetchone()
    return row[0] if row else None


def is_used(connection: psycopg.Connection[Any], name: str) -> bool:
    """Whether a schema of ours holds anything but what it is made with: queues, or results alone."""
    return any(
        connection.execute(
            sql.SQL("SELECT FROM {}{} LIMIT 1").format(sql.Identifier(name, table), sql.SQL(ours))
        ).fetchone()
        is not None
        for table, ours in _filled(connection, name)
        if table != "epoch"  # the server's present life, which whoever looks enters
    )


def drop(connection: psycopg.Connection[Any], name: str) -> None:
    """Drop a schema with all that it holds."""
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def empty(connection: psycopg.Connection[Any], name: str) -> None:
    """Delete every row of a schema of ours, but for its version and the exchanges that it is made with."""
    tables = list(_filled(connection, name))
    with connection.transaction():
        for table, ours in tables:
            connection.execute(sql.SQL("DELETE FROM {}{}").format(sql.Identifier(name, table), sql.SQL(ours)))


def _filled(connection: psycopg.Connection[Any], name: str) -> Iterator[tuple[str, LiteralString]]:
    """The tables of a schema of ours that are filled by use, each with the condition for what is not ours."""
    tables = connection.execute(
        """SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'
              AND relname <> 'schema_version'""",
        (identifier(name),),
    ).fetchall()
    for (table,) in tables:
        yield table, " WHERE name NOT LIKE 'amq.%'" if table == "exchange" else ""


def drop_tables(connection: psycopg.Connection[Any], name: str) -> None:
    """Drop everything in a schema that somebody else owns, and leave the schema."""
    relations = connection.execute(
        """SELECT relkind, relname FROM pg_class WHERE relnamespace = %s::regnamespace
              AND (relkind IN ('r', 'v') OR relkind = 'S' AND NOT EXISTS (
                  SELECT FROM pg_depend d WHERE d.objid = pg_class.oid AND d.deptype = 'i'))
            ORDER BY array_position('{v,r,S}'::"char"[], relkind)""",
        (identifier(name),),
    ).fetchall()
    kinds = {"v": "VIEW", "r": "TABLE", "S": "SEQUENCE"}
    with connection.transaction():
        for kind, relation in relations:
            statement = sql.SQL("DROP {} IF EXISTS {} CASCADE")
            connection.execute(statement.format(sql.SQL(kinds[kind]), sql.Identifier(name, relation)))
