"""Installs, upgrades and checks the schema.

A revision is named `generation.step`. Within a generation every step leaves the older releases working, so
workers of two releases run side by side during a deployment. A release refuses a newer generation.

SQLAlchemy and alembic are imported where they are needed: they take half a second, and a process whose
schema fits never needs them.
"""

from __future__ import annotations

import io
import logging
import re
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError, DatabaseUnavailable, Error, SchemaError
from .refusals import not_connected, one_line, refused
from .rights import grants, identifier, migrate_command

if TYPE_CHECKING:
    from types import ModuleType

    from alembic.config import Config
    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError

    from .dsn import Dsn

VERSION = "1.8"
"""The revision that this release was written for."""

# First of all, and whatever the role's own are: twenty workers may wait in line for one.
_SETTINGS = """SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL lock_timeout = '60s'; SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on"""

# Who is a member of the role that owns the tables migrates as that role, so that one role goes on owning all.
_OWNER = """SELECT o.rolname FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
 WHERE n.nspname = :name AND c.relname = 'schema_version' AND o.rolname <> current_user
   AND pg_has_role(o.oid, 'MEMBER') AND has_schema_privilege(o.oid, n.oid, 'CREATE')"""


def verdict(found: str | None) -> str:
    """`fit`, `missing` or `outdated`; raises SchemaError where this release is too old."""
    if found is None:
        return "missing"
    generation, step = _parts(found)
    my_generation, my_step = _parts(VERSION)
    if generation > my_generation:
        raise SchemaError(
            f"the schema has version {found}, this release knows {VERSION}: upgrade celery-postgres"
        )
    return "fit" if (generation, step) >= (my_generation, my_step) else "outdated"


def _parts(version: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]+)\.([0-9]+)", version)
    if found is None:
        raise SchemaError(
            f"the schema has the version {version!r}, which no release wrote: is another program's "
            "schema_version table in this schema? Choose a free one with the option schema"
        )
    return int(found[1]), int(found[2])


def upgrade(dsn: Dsn, schema: str) -> None:
    """Create or upgrade the schema in one transaction; harmless when it is up to date.

    Any number of processes may call it at once: they go one at a time. Blocks.
    Raises ConfigurationError naming the missing right, SchemaError where it holds something else,
    DatabaseUnavailable.
    """
    command = _alembic_commands()
    from alembic.util import CommandError
    from sqlalchemy import create_engine, event, exc, pool, text

    # Through a transaction pooler a prepared statement would stay behind for the next client.
    engine = create_engine(
        dsn.at_primary().sqlalchemy(), poolclass=pool.NullPool, connect_args={"prepare_threshold": None}
    ).execution_options(postgresql_readonly=False)
    event.listen(engine, "do_connect", _connect_at_home)
    role = database = ""
    try:
        with engine.begin() as connection:
            connection.execute(text(_SETTINGS))
            role, database = connection.execute(text("SELECT current_user, current_database()")).one()
            _lock(connection, schema)
            _become_owner(connection, schema)
            _create_schema(connection, schema)
            command.upgrade(_config(schema, connection), "head")
    except exc.DBAPIError as error:
        raise _refused(error, dsn, schema, role, database) from error.orig
    except CommandError as error:  # a version that no release wrote
        raise _foreign(schema, str(error)) from error
    finally:
        engine.dispose()


def _connect_at_home(dialect: Any, _: object, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """What SQLAlchemy asks a new connection, in its first transaction, is answered by the server's own."""
    connection = dialect.connect(*arguments, **keywords)
    connection.cursor().execute("SET LOCAL search_path = pg_catalog, pg_temp")
    return connection


def script(schema: str, role: str | None = None, *, present: str | None = None) -> str:
    """The same as SQL text for somebody who may create what the application's role may not.

    `present` is the version that is there, None where nothing is. With a role, its end grants what the
    application needs at run time, and nothing more.
    Raises ConfigurationError for a version that no release had.
    """
    command = _alembic_commands()
    buffer = io.StringIO()
    config = _config(schema, None)
    config.output_buffer = buffer
    if present is not None:
        _check_known(config, present)
    command.upgrade(config, "head" if present is None else f"{present}:head", sql=True)
    # As in `upgrade`: what the views call must not be found somewhere else, by the path of whoever executes.
    first = f'CREATE SCHEMA IF NOT EXISTS "{schema}";' if present is None else _demand(schema, present)
    begin = f"BEGIN;\n\nSET LOCAL search_path = pg_catalog, pg_temp;\n\n{first}"
    body = buffer.getvalue().replace("BEGIN;", begin, 1)
    if role is not None:
        body = body.replace("COMMIT;", "\n".join(grants(schema, role)) + "\n\nCOMMIT;")
    return body.strip() + "\n"


def _demand(schema: str, version: str) -> str:
    """A statement that ends the transaction where another version is there; the rest would spoil it."""
    return f"""DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM {identifier(schema)}.schema_version WHERE version_num = '{version}') THEN
        RAISE EXCEPTION 'schema {schema} does not have version {version}: see celery-postgres check';
    END IF;
END $$;"""


def _check_known(config: Config, version: str) -> None:
    from alembic.script import ScriptDirectory

    known = [revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()]
    if version not in known:
        raise ConfigurationError(
            f"no release had version {version} of the schema, only {', '.join(reversed(known))}: name the "
            "one that `celery-postgres check` tells"
        )


def _alembic_commands() -> ModuleType:
    """`alembic.command`, whose first import writes the names of its plugins into whatever log there is."""
    log = logging.getLogger("alembic.runtime.plugins")
    log.addFilter(_unheard)
    try:
        from alembic import command
    finally:
        log.removeFilter(_unheard)
    return command


def _unheard(_: logging.LogRecord) -> bool:
    return False


def _config(schema: str, connection: Connection | None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "celery_postgres:migrations")
    config.attributes.update(schema=schema, connection=connection)
    return config


def _lock(connection: Connection, schema: str) -> None:
    """Twenty workers that start at once create the schema once; the others wait and find it."""
    from sqlalchemy import text

    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
        {"name": f"celery-postgres migrate {schema}"},
    )


def _become_owner(connection: Connection, schema: str) -> None:
    """For the transaction; does nothing where there are no tables yet, or we may not."""
    from sqlalchemy import text

    owner = connection.execute(text(_OWNER), {"name": schema}).scalar()
    if owner is not None:
        connection.execute(text("SELECT set_config('role', :owner, true)"), {"owner": owner})


def _create_schema(connection: Connection, schema: str) -> None:
    from sqlalchemy import text

    # Not IF NOT EXISTS: that asks for the right to create even where there is nothing to create.
    exists = connection.execute(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": schema})
    if exists.first() is None:
        connection.execute(text(f'CREATE SCHEMA "{schema}"'))


def _refused(error: DBAPIError, dsn: Dsn, schema: str, role: str, database: str) -> Error:
    cause: Any = error.orig
    said, state = one_line(cause), cause.sqlstate
    if state is None:
        return not_connected(cause, dsn)
    if state == "42501":
        remedy = (
            f"have its owner or a superuser run `{migrate_command(schema)}` or execute the output of "
            f"`{migrate_command(schema, role=role)}`"
        )
        if (error.statement or "").startswith("CREATE SCHEMA"):
            grant = f"GRANT CREATE ON DATABASE {identifier(database)} TO {identifier(role)};"
            remedy += f", or let {role} create it: {grant}"
        return ConfigurationError(f"schema {schema} cannot be set up: {said}: {remedy}")
    if state.startswith("42"):
        return _foreign(schema, said)
    if state == "55P03":
        return DatabaseUnavailable(f"schema {schema} is being set up by somebody who takes long: {said}")
    return refused(state, said, schema=schema, role=role)


def _foreign(schema: str, said: str) -> SchemaError:
    return SchemaError(
        f"schema {schema} cannot be upgraded: {said}: it holds something else than the tables of this "
        "package; choose a free one with the option schema"
    )
