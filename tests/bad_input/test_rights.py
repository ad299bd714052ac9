"""Roles that may not do what is needed."""

from __future__ import annotations

import re
import threading

import psycopg
import pytest
from kombu import Connection, Exchange, Queue

from celery_postgres import schema
from celery_postgres.errors import ConfigurationError
from tests.fixtures.waiting import wait_until

from .admin import publish, refusal, take

LACKS = {
    "no usage": 'REVOKE USAGE ON SCHEMA celery FROM "{role}"',
    "no tables": 'REVOKE ALL ON ALL TABLES IN SCHEMA celery FROM "{role}"',
    "no version": 'REVOKE ALL ON celery.schema_version FROM "{role}"',
    "read only": 'REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA celery FROM "{role}"',
    "no insert": 'REVOKE INSERT ON celery.message FROM "{role}"',
    "no sequence": 'REVOKE ALL ON ALL SEQUENCES IN SCHEMA celery FROM "{role}"',
}


def cure(admin, work) -> None:
    """Do what each error says, until nothing is missing any more; no error comes twice."""
    told: set[str] = set()
    while (missing := complaint(work)) is not None:
        assert "celery-postgres grants`" in missing
        assert missing not in told
        told.add(missing)
        admin.run(*re.findall(r"GRANT [^;]+;", missing))


def complaint(work) -> str | None:
    """The error with which the work ends; None where it is done."""
    try:
        work()
    except ConfigurationError as error:
        return str(error)
    return None


def use_everything(url: str, **options) -> None:
    """Publish and consume through every kind of exchange and queue, and clean up."""
    with Connection(url, **options) as connection, connection.channel() as channel:
        for kind in ("direct", "topic", "fanout"):
            queue = Queue(f"q.{kind}", Exchange(f"x.{kind}", type=kind), routing_key="k")(channel)
            queue.declare()
            connection.Producer(channel).publish(kind, exchange=queue.exchange, routing_key="k")
            assert queue.get(no_ack=True).payload == kind
        log = Queue("q.log", Exchange("x.log", type="fanout"), durable=False, exclusive=True)(channel)
        log.declare()
        connection.Producer(channel).publish("log", exchange=log.exchange)
        assert log.get(no_ack=True).payload == "log"
        for name in ("q.direct", "q.topic", "q.fanout"):
            channel.queue_delete(name)
        channel.exchange_delete("x.direct")


@pytest.mark.parametrize("kind", LACKS)
def test_missing_right_is_granted_by_the_message(admin, new_role, kind):
    """Each message holds the GRANT that is missing: executed as they stand, everything works in the end."""
    role = new_role()
    admin.run(schema.script("celery", role), LACKS[kind].format(role=role))
    with refusal(ConfigurationError):
        use_everything(admin.url_of(role))
    assert not any(admin.stored().values())
    cure(admin, lambda: use_everything(admin.url_of(role)))


@pytest.mark.parametrize("name", ["with space", 'a"b', "Ünïcode", "select", "x' OR '1'='1"])
def test_any_role_name(admin, new_role, name):
    """The GRANTs quote what has to be quoted."""
    new_role(name=name)
    admin.run(schema.script("celery"))
    with refusal(ConfigurationError):
        publish(admin.url_of(name))
    cure(admin, lambda: publish(admin.url_of(name)))
    cure(admin, lambda: admin.stored()["message"] and take(admin.url_of(name)))
    publish(admin.url_of(name))
    assert take(admin.url_of(name)) == 1


def test_role_that_may_not_create_the_schema(admin, new_role):
    """Without CREATE on the database the message says who can help, and how; nothing is left behind."""
    role = new_role()
    with refusal(ConfigurationError) as told:
        publish(admin.url_of(role))
    assert f"`celery-postgres migrate --sql --role {role}`" in str(told)
    assert admin.schemas() == set()
    admin.run(re.search(r"GRANT CREATE ON DATABASE [^;]+;", str(told))[0])
    publish(admin.url_of(role))
    assert take(admin.url_of(role)) == 1


def test_schema_of_somebody_else(admin, new_role):
    """In an empty schema that another role owns nothing can be created: no GRANT on the database helps."""
    role = new_role()
    admin.run("CREATE SCHEMA celery", f'GRANT USAGE ON SCHEMA celery TO "{role}"')
    with refusal(ConfigurationError) as told:
        publish(admin.url_of(role))
    assert "have its owner or a superuser run `celery-postgres migrate`" in str(told)
    assert "GRANT CREATE ON DATABASE" not in str(told)


def test_right_that_is_taken_away_at_work(admin, new_role):
    """A connection that loses a right says so at its next step, stores nothing, and can go on afterwards."""
    role = new_role()
    admin.run(schema.script("celery", role))
    with Connection(admin.url_of(role)) as connection:
        queue = connection.SimpleQueue("q")
        queue.put("before")
        admin.run(f'REVOKE INSERT ON celery.ready FROM "{role}"')
        with refusal(ConfigurationError) as told:
            queue.put("refused")
        assert f'GRANT SELECT, INSERT, UPDATE, DELETE ON "celery"."ready" TO "{role}";' in str(told)
        assert admin.stored()["message"] == 1
        admin.run(f'GRANT INSERT ON celery.ready TO "{role}"')
        queue.put("after")
        assert [queue.get(timeout=5).payload for _ in range(2)] == ["before", "after"]


def test_script_gives_what_is_needed_and_no_more(admin, new_role):
    """The role of `celery-postgres migrate --sql --role` can do everything but change the schema."""
    role = new_role()
    admin.run(schema.script("jobs", role))
    for auto_migrate in (True, False):
        use_everything(admin.url_of(role), transport_options={"schema": "jobs", "auto_migrate": auto_migrate})
    tables = admin.run(
        f"""SELECT c.relname, has_table_privilege('{role}', c.oid, 'INSERT, UPDATE, DELETE'),
                   has_table_privilege('{role}', c.oid, 'TRUNCATE, REFERENCES, TRIGGER')
              FROM pg_class c WHERE c.relnamespace = 'jobs'::regnamespace AND c.relkind = 'r'"""
    )
    assert [name for name, writes, _ in tables if not writes] == ["schema_version"]
    assert [name for name, _, more in tables if more] == []
    assert admin.run(
        f"""SELECT has_schema_privilege('{role}', 'jobs', 'USAGE'),
                   has_schema_privilege('{role}', 'jobs', 'CREATE'),
                   has_database_privilege('{role}', current_database(), 'CREATE')"""
    ) == [(True, False, False)]


def test_script_without_role_grants_nothing(admin, new_role):
    """Without a role the output makes the schema, as `celery-postgres migrate` does."""
    assert "GRANT" not in schema.script("celery")
    admin.run(schema.script("celery"))
    publish(admin.url, transport_options={"auto_migrate": False})
    assert take(admin.url) == 1


def test_settings_of_the_role_do_no_harm(admin, new_role):
    """A read-only default, a search path and forms of values that the role prefers are not ours."""
    role = new_role()
    admin.run(
        f'GRANT CREATE ON DATABASE "{admin.database}" TO "{role}"',
        f'ALTER ROLE "{role}" SET default_transaction_read_only = on',
        f"ALTER ROLE \"{role}\" SET default_transaction_isolation = 'serializable'",
        f"ALTER ROLE \"{role}\" SET search_path = ''",
        f'ALTER ROLE "{role}" SET synchronous_commit = off',
        f"ALTER ROLE \"{role}\" SET datestyle = 'SQL, DMY'",
        f"ALTER ROLE \"{role}\" SET timezone = 'Asia/Kathmandu'",
        f"ALTER ROLE \"{role}\" SET bytea_output = 'escape'",
        f'ALTER ROLE "{role}" SET standard_conforming_strings = off',
    )
    use_everything(admin.url_of(role))


def test_timeouts_of_the_role_do_no_harm(admin, new_role):
    """A statement may wait for longer than the role's own timeouts allow."""
    role = new_role()
    admin.run(
        schema.script("celery", role),
        f"ALTER ROLE \"{role}\" SET statement_timeout = '300ms'",
        f"ALTER ROLE \"{role}\" SET lock_timeout = '300ms'",
    )
    with psycopg.connect(admin.url) as blocker, Connection(admin.url_of(role)) as connection:
        queue = connection.SimpleQueue("q")
        queue.put(0)
        blocker.execute("LOCK celery.message IN ACCESS EXCLUSIVE MODE")
        publisher = threading.Thread(target=queue.put, args=(1,))
        publisher.start()
        waits = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND wait_event_type = 'Lock'"
        wait_until(lambda: admin.run(waits) == [(1,)], "the publisher waits for the lock")
        blocker.execute("SELECT pg_sleep(0.5)")
        blocker.rollback()
        publisher.join()
        assert admin.stored()["message"] == 2
