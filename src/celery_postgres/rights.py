"""The rights that each purpose needs, as SQL, and no more: nothing here lets a role change a table."""

from __future__ import annotations

import re
import shlex
from itertools import groupby
from typing import TYPE_CHECKING

from psycopg import sql

from .purposes import CONSUMER, PRODUCER, PURPOSES, SEQUENCES, TABLES, VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .purposes import Privileges, Purpose

__all__ = [
    "grants",
    "grants_command",
    "grants_for",
    "identifier",
    "migrate_command",
    "missing_grants",
    "script",
]

_DEFAULT_SCHEMA = "celery"


def identifier(*names: str) -> str:
    """A name quoted as SQL wants it; of several, one qualified by the others."""
    return sql.Identifier(*names).as_string()


def grants(schema: str, role: str) -> list[str]:
    """The statements that give a role what it needs at run time, for the owner of the schema to execute."""
    ours, theirs = identifier(schema), identifier(role)
    return [
        f"GRANT USAGE ON SCHEMA {ours} TO {theirs};",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {ours} TO {theirs};",
        f"REVOKE INSERT, UPDATE, DELETE ON {ours}.schema_version FROM {theirs};",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {ours} TO {theirs};",
    ]


def grants_for(purpose: Purpose, schema: str, role: str) -> list[str]:
    """The same for one purpose, table by table: whoever else has tables in the schema keeps them."""
    statements = [f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {identifier(role)};"]
    # Tables with the same privileges share a statement.
    for privileges, names in groupby(
        sorted(purpose.needs, key=lambda name: (_listed(purpose.needs[name]), _place(name))),
        key=lambda name: (_listed(purpose.needs[name]), name in SEQUENCES),
    ):
        if privileges[0]:
            statements.append(_grant(privileges[0], names, schema, role))
    return statements


def _grant(privileges: str, names: Iterable[str], schema: str, role: str) -> str:
    listed = list(names)
    kind = "SEQUENCE " if listed[0] in SEQUENCES else ""
    return f"GRANT {privileges} ON {kind}{_qualified(listed, schema)} TO {identifier(role)};"


def _listed(privileges: Privileges) -> str:
    return ", ".join(verb + (f" ({', '.join(of)})" if of else "") for verb, of in privileges.items())


def _qualified(names: Iterable[str], schema: str) -> str:
    return ", ".join(identifier(schema, name) for name in names)


def _place(name: str) -> int:
    return (*TABLES, *VIEWS, *SEQUENCES).index(name)


def missing_grants(said: str, schema: str, role: str) -> str:
    """The GRANT whose lack a server complains of, for what a worker needs and, if that is less, a publisher.

    The server names the object in its own language, so the name is looked for and nothing else.
    """
    words = set(re.findall(r"\w+", said))
    named = [name for name in CONSUMER.needs if name in words]
    if not named:
        if schema in words:
            return f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {identifier(role)};"
        return " ".join(grants_for(CONSUMER, schema, role))
    given = [
        " ".join(
            _grant(privileges, [name], schema, role)
            for name in named
            if (privileges := _listed(purpose.needs[name]))
        )
        for purpose in (CONSUMER, PRODUCER)
    ]
    worker, publisher = given
    if not publisher or publisher == worker:
        return worker
    return f"{worker} (for a role that only publishes, this is enough: {publisher})"


def grants_command(schema: str) -> str:
    """What to type to see all that each purpose needs."""
    return shlex.join(
        ["celery-postgres", *([] if schema == _DEFAULT_SCHEMA else ["--schema", schema]), "grants"]
    )


def script(schema: str, roles: Mapping[str, str], owner: str | None = None) -> str:
    """One transaction that makes the roles where they do not exist and gives each what its purpose needs.

    `roles`: names by purpose. What a role had on our tables before is taken away, so executing this again
    after an upgrade leaves each with what the release needs. With `owner`, the role of the purpose admin
    becomes a member of it, and can so migrate.
    """
    theirs = ", ".join(dict.fromkeys(identifier(role) for role in roles.values()))
    tables = _qualified((*TABLES, *VIEWS), schema)
    parts = [
        "BEGIN;\nSET LOCAL search_path = pg_catalog, pg_temp;",
        _refuse_owners(schema, roles.values()),
        "\n".join(_create(role) for role in dict.fromkeys(roles.values())),
        "\n".join(
            f"REVOKE ALL ON {what} FROM PUBLIC, {theirs};"
            for what in (
                f"SCHEMA {identifier(schema)}",
                tables,
                f"SEQUENCE {_qualified(SEQUENCES, schema)}",
            )
        ),
        *(
            f"-- {name}: {PURPOSES[name].does}\n" + "\n".join(grants_for(PURPOSES[name], schema, role))
            for name, role in roles.items()
        ),
    ]
    if owner is not None:
        parts.append(
            f"-- migrates as the owner of the tables\nGRANT {identifier(owner)} TO "
            f"{identifier(roles['admin'])};"
        )
    return "\n\n".join([*parts, "COMMIT;"]) + "\n"


def _refuse_owners(schema: str, roles: Iterable[str]) -> str:
    """The owner of the tables has all rights, and taking some away would stop a later migration.

    Nor may anybody else execute it.
    """
    named = ", ".join(sql.Literal(role).as_string() for role in roles)
    body = (
        "DECLARE owner name; BEGIN SELECT pg_get_userbyid(c.relowner) INTO owner FROM pg_class c "
        f"JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {sql.Literal(schema).as_string()} "
        f"AND c.relname = 'schema_version'; IF owner IN ({named}) THEN RAISE EXCEPTION "
        "'% owns the tables and has all rights: name another role', owner; END IF; "
        # Else what may not be granted is a warning where anything may.
        "IF NOT pg_has_role(owner, 'USAGE') THEN RAISE EXCEPTION "
        "'% owns the tables, and nobody else may grant rights on them', owner; END IF; END"
    )
    return f"DO {sql.Literal(body).as_string()};"


def _create(role: str) -> str:
    """CREATE ROLE has no IF NOT EXISTS; whoever may not create roles may still grant to those that exist."""
    name = sql.Literal(role).as_string()
    body = (
        f"BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) "
        f"THEN CREATE ROLE {identifier(role)} NOLOGIN; END IF; END"
    )
    return f"DO {sql.Literal(body).as_string()};"


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
