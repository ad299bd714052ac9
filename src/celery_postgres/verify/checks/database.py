"""What needs no worker: the way to the database, versions, rights, the schema, counts of queues."""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from celery_postgres import schema as installer
from celery_postgres.connection import Database
from celery_postgres.rights import migrate_command
from celery_postgres.verify import catalog
from celery_postgres.verify.outcome import Fault, Finding, NotRun

if TYPE_CHECKING:
    from celery_postgres.verify.stage import Stage

_OLDEST = {"celery": (5, 7), "kombu": (5, 7)}


def connection(stage: Stage) -> Finding:
    """The database answers, and lets the role in."""
    begin = time.monotonic()
    # A schema that does not exist: whether the role may read that of the application is asked later.
    options = replace(stage.request.options, schema=f"{catalog.PREFIX}none")
    session, server = Database(stage.request.dsn, options).open()
    taken = time.monotonic() - begin
    session.close()
    stage.connect(server)
    pooled = ", through a transaction pooler" if server.pooled else ""
    return Finding(
        f"as {server.user}{pooled}, in {1000 * taken:.0f} ms",
        {"connect_s": taken, "role": server.user, "pooled": server.pooled},
    )


def versions(stage: Stage) -> Finding:
    """Python, the libraries and the server are ones that work together."""
    assert stage.server is not None
    number = stage.server.version
    found = {
        "Python": platform.python_version(),
        **{name: version(name) for name in ("celery", "kombu", "psycopg")},
        "PostgreSQL": f"{number // 10000}.{number % 10000}",
    }
    for library, oldest in _OLDEST.items():
        if tuple(int(part) for part in found[library].split(".")[:2]) < oldest:
            wanted = ".".join(map(str, oldest))
            raise Fault(f"{library} is {found[library]}", f"pip install '{library}>={wanted}'")
    return Finding(", ".join(f"{name} {value}" for name, value in found.items()), {"versions": found})


def rights(stage: Stage) -> Finding:
    """The role may do what workers and publishers of the application will do, in the application's schema."""
    name = stage.request.options.schema
    with stage.transaction() as session:
        role = catalog.role(session)
        found = catalog.schema(session, name)
    who = f"{role.name}{', a superuser,' if role.superuser else ''}"
    by_hand = f"or have the output of `{migrate_command(name, role=role.name)}` run"
    if not found.ours and not stage.request.options.auto_migrate:
        raise Fault(
            f"the schema {name} is not set up, and auto_migrate is off",
            f"run `{migrate_command(name)}`",
        )
    if not found.exists:
        if role.may_create_schemas:
            return Finding(f"{who} may create the schema {name}")
        raise Fault(
            f"{who} may not create the schema {name}, which does not exist", f"{role.grant_create} {by_hand}"
        )
    if not found.ours:
        return _to_fill(name, found, role)
    lacking = found.lacking(name, role)
    if lacking:
        raise Fault(f"{who} lacks rights in the schema {name}", " ".join(lacking))
    with stage.transaction() as session:
        version_found = catalog.version(session, name)
    if installer.verdict(version_found) != "fit" and not (found.tables_owned and found.create):
        raise Fault(
            f"the schema {name} has version {version_found}, and {who} may not upgrade it to "
            f"{installer.VERSION}",
            f"have its owner run `{migrate_command(name)}`",
        )
    return Finding(f"{who} may use the schema {name}, which is set up")


def _to_fill(name: str, found: catalog.Schema, role: catalog.Role) -> Finding:
    if not (found.usage and found.create):
        raise Fault(
            f"{role.name} may not create tables in the schema {name}, which has none of ours",
            role.grant_to_fill(name),
        )
    return Finding(f"{role.name} may create the tables in the schema {name}")


def schema(stage: Stage) -> Finding:
    """The tables are made beside those of the application, which stay as they are."""
    with stage.transaction() as session:
        role, prepared = catalog.role(session), catalog.schema(session, stage.schema)
    if stage.request.prepared_schema is None and not role.may_create_schemas:
        raise NotRun(
            f"{role.name} may not create a schema to verify in; have somebody who may run the output of "
            f"`{migrate_command('celery_verify', role=role.name)}` and give "
            f"--in-schema celery_verify, or for the time of this: {role.grant_create}"
        )
    if prepared.ours and (lacking := prepared.lacking(stage.schema, role)):
        raise Fault(f"{role.name} lacks rights in the schema {stage.schema}", " ".join(lacking))
    if prepared.exists and not prepared.ours and not (prepared.usage and prepared.create):
        raise Fault(
            f"{role.name} may not create tables in the schema {stage.schema}",
            role.grant_to_fill(stage.schema),
        )
    begin = time.monotonic()
    stage.ground.set_up()
    taken = time.monotonic() - begin
    made = _own_objects(stage)
    installer.upgrade(stage.request.dsn, stage.schema)
    if _own_objects(stage) != made:
        raise Fault("a second set-up changed the tables", "report this as a bug")
    require_untouched(stage)
    count = sum(kind == "table" for kind, _ in stage.before)
    return Finding(
        f"{stage.schema}: {sum(kind == 'r' for kind, _, _ in made)} tables, made in {taken:.2f} s beside "
        f"{count} others, which are as they were; a second set-up changed nothing",
        {"set_up_s": taken, "tables_of_others": count},
    )


def _own_objects(stage: Stage) -> list[tuple[str, str, int]]:
    with stage.transaction() as session:
        return session.execute(
            """SELECT relkind::text, relname, c.oid::bigint FROM pg_class c
                 JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s ORDER BY relname""",
            (stage.schema,),
        ).fetchall()


def require_untouched(stage: Stage) -> None:
    """Raises Fault if anything outside our schema differs from what was there at the beginning."""
    different = catalog.differences(stage.before, stage.objects())
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise Fault(
            f"outside the schema {stage.schema}, {', '.join(different[:3])}{more}",
            "run this again while nobody migrates the database; if it says the same, report it as a bug",
        )


def untouched(stage: Stage) -> Finding:
    """At the end, everything outside the schema of the verification is as it was."""
    require_untouched(stage)
    tables = sum(kind == "table" for kind, _ in stage.before)
    return Finding(
        f"{len(stage.before)} objects outside, {tables} of them tables, are as they were",
        {"objects": len(stage.before)},
    )


_STATES = """SELECT (SELECT count(*) FROM {s}.ready r WHERE r.queue_id = q.id),
       (SELECT count(*) FROM {s}.delayed d WHERE d.queue_id = q.id),
       (SELECT count(*) FROM {s}.unacked u WHERE u.queue_id = q.id)
  FROM {s}.queue q WHERE q.name = 'verify.counts'"""


def counts(stage: Stage) -> Finding:
    """What waits, what is held for later and what is in hand can be counted: in SQL, and as AMQP counts."""
    queue = "verify.counts"
    begin = time.monotonic()
    for _ in range(3):
        stage.send("echo", "counted", queue=queue)
    taken = (time.monotonic() - begin) / 3
    stage.send("echo", "later", queue=queue, countdown=3600)
    with stage.client.connection_for_read() as broker, broker.channel() as channel:
        message = channel.basic_get(queue)
        amqp = channel.queue_declare(queue=queue, passive=True).message_count
        counted = stage.rows(_STATES)
        if message is None or counted != [(2, 1, 1)] or amqp != 2:
            raise Fault(
                f"of 4 messages SQL counts {counted} as ready, delayed, unacked, and AMQP {amqp} as ready; "
                "expected 2, 1, 1 and 2",
                "report this as a bug",
            )
        message.ack()
        # An acknowledgement travels by itself, and would come too late for a queue that is gone.
        stage.wait_for(lambda: stage.rows(_STATES) == [(2, 1, 0)], "an acknowledgement was not stored")
        channel.queue_delete(queue)
    return Finding("4 messages: 2 ready, 1 delayed, 1 unacked, by SQL and by AMQP", {"publish_s": taken})
