"""A schema that is missing, newer, older, damaged or somebody else's; and many who come at once."""

from __future__ import annotations

import multiprocessing
import shlex

import pytest
from click.testing import CliRunner
from kombu import Connection

from celery_postgres import schema
from celery_postgres.cli import main
from celery_postgres.errors import SchemaError

from .admin import connect, publish, refusal, take

NOT_ALLOWED = {"auto_migrate": False}
PROCESSES = 20

VERSIONS = {
    "next generation": ("2.0", "the schema has version 2.0, this release knows .*: upgrade celery-postgres"),
    "far generation": ("99.7", "upgrade celery-postgres"),
    "a word": ("head", "Choose a free one with the option schema"),
    "a hash": ("ae1027a6acf", "Choose a free one with the option schema"),
    "too many parts": ("1.2.3", "Choose a free one with the option schema"),
    "nothing": ("", "Choose a free one with the option schema"),
    "other digits": ("\uff11.\uff11", "Choose a free one with the option schema"),
    "negative step": ("1.-5", "Choose a free one with the option schema"),
    "no such release": ("0.3", "choose a free one with the option schema"),
}


def relations(admin) -> list[tuple[object, ...]]:
    """Names and kinds of what is in the schema."""
    return admin.run(
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'celery'::regnamespace ORDER BY 1"
    )


def version(admin) -> list[str]:
    """What the schema says of itself."""
    return [row[0] for row in admin.run("SELECT version_num FROM celery.schema_version")]


@pytest.mark.parametrize("kind", VERSIONS)
def test_version_that_this_release_does_not_know(admin, kind):
    """Newer, unknown or no version at all: an error with the way out, and nothing is changed."""
    publish(admin.url, "stored")
    found, remedy = VERSIONS[kind]
    admin.run(f"UPDATE celery.schema_version SET version_num = '{found}'")
    before = relations(admin)
    with refusal(SchemaError) as told:
        publish(admin.url, "refused")
    assert told.matches(remedy)
    assert relations(admin) == before
    assert version(admin) == [found]
    admin.run(f"UPDATE celery.schema_version SET version_num = '{schema.VERSION}'")
    assert take(admin.url) == "stored"
    assert not any(admin.stored().values())


def test_later_step_of_this_generation(admin):
    """A schema that a later release has extended serves this one as well."""
    publish(admin.url, "before")
    generation, step = schema.VERSION.split(".")
    admin.run(f"UPDATE celery.schema_version SET version_num = '{generation}.{int(step) + 1}'")
    publish(admin.url, "after")
    assert [take(admin.url) for _ in range(2)] == ["before", "after"]


FOREIGN = {
    "a table of ours": "CREATE TABLE celery.message (id int)",
    "another version table": "CREATE TABLE celery.schema_version (major int)",
    "a view": "CREATE VIEW celery.schema_version AS SELECT 'x' AS version_num",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_schema_of_another_program(admin, kind):
    """What was there stays as it was; the message names the option."""
    admin.run("CREATE SCHEMA celery", FOREIGN[kind])
    before = relations(admin)
    with refusal(SchemaError) as told:
        publish(admin.url)
    assert told.matches("hoose a free one with the option schema")
    assert relations(admin) == before
    publish(admin.url, "elsewhere", transport_options={"schema": "jobs"})
    assert take(admin.url, transport_options={"schema": "jobs"}) == "elsewhere"


@pytest.mark.parametrize("table", ["queue", "message", "ready", "consumer", "binding"])
def test_table_that_vanished(admin, table):
    """A damaged schema is named as such; the other tables keep what they hold."""
    publish(admin.url, "stored")
    admin.run(f"ALTER TABLE celery.{table} RENAME TO lost")
    with refusal(SchemaError) as told:
        publish(admin.url, "refused")
        take(admin.url)
    assert told.matches(f'celery.{table}" does not exist: run `celery-postgres migrate`')
    admin.run(f"ALTER TABLE celery.lost RENAME TO {table}")
    assert take(admin.url) == "stored"


def test_schema_that_is_dropped_at_work(admin):
    """A connection to a schema that vanishes says so; the next connection makes it anew."""
    with Connection(admin.url) as connection:
        queue = connection.SimpleQueue("q")
        queue.put(1)
        admin.run("DROP SCHEMA celery CASCADE")
        with refusal(SchemaError) as told:
            queue.put(2)
        assert told.matches("run `celery-postgres migrate`")
    publish(admin.url, 3)
    assert take(admin.url) == 3


def test_missing_schema_is_not_made_when_that_is_off(admin):
    """With `auto_migrate` off a missing schema is an error that names the command; nothing is created."""
    with refusal(SchemaError) as told:
        publish(admin.url, transport_options=NOT_ALLOWED)
    assert told.matches("schema celery is missing and auto_migrate is off: run `celery-postgres migrate`$")
    with refusal(SchemaError):
        connect(f"{admin.url}?auto_migrate=off")
    assert admin.schemas() == set()
    publish(admin.url)
    assert take(admin.url, transport_options=NOT_ALLOWED) == 1


def test_the_command_that_is_named_helps(admin):
    """Also where the schema has a name of its own: what the error says, typed as it stands, makes it."""
    options = {**NOT_ALLOWED, "schema": "jobs"}
    with refusal(SchemaError) as told:
        publish(admin.url, transport_options=options)
    command = str(told).partition("run `")[2].rstrip("`")
    assert command == "celery-postgres --schema jobs migrate"
    result = CliRunner().invoke(main, shlex.split(command)[1:], env={"DATABASE_URL": admin.url})
    assert result.exit_code == 0, result.output
    publish(admin.url, transport_options=options)
    assert take(admin.url, transport_options=options) == 1


def test_older_schema_is_not_upgraded_when_that_is_off(admin):
    """With `auto_migrate` off an older schema is left as it is."""
    publish(admin.url)
    admin.run("UPDATE celery.schema_version SET version_num = '0.3'")
    with refusal(SchemaError) as told:
        publish(admin.url, transport_options=NOT_ALLOWED)
    assert told.matches("is outdated and auto_migrate is off: run `celery-postgres migrate`$")
    assert version(admin) == ["0.3"]


def publish_with_the_others(url, gate, number) -> None:
    gate.wait()
    publish(url, number)


def test_twenty_processes_start_on_an_empty_database(admin):
    """All of them come at the same moment; the schema is made once, and every message is stored."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["alembic.command", "celery_postgres.transport", "sqlalchemy", __name__])
    gate = context.Barrier(PROCESSES)
    processes = [
        context.Process(target=publish_with_the_others, args=(admin.url, gate, number))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    assert sorted(take(admin.url) for _ in range(PROCESSES)) == list(range(PROCESSES))
    assert version(admin) == [schema.VERSION]
