"""Nothing of ours is looked for where somebody else may put things.

Not in another schema, nor among temporary tables; neither by a session of ours, nor through a pooler that
hands us the session of another.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

import celery_postgres
from celery_postgres import dsn, schema
from celery_postgres.connection import Database
from celery_postgres.doctor import PROBLEM, examine
from celery_postgres.doctor.patient import Patient
from celery_postgres.options import Options
from celery_postgres.sql import Statement
from tests.fixtures.pooler import pooler

SOURCE = "\n".join(path.read_text() for path in Path(celery_postgres.__file__).parent.rglob("*.py"))
WORDS = sorted(set(re.findall(r"\b([a-z_0-9]{3,})\(", SOURCE)))

# A function for each of the server's own whose name occurs in our sources, with the same arguments, and an
# operator for each of the usual ones: whoever calls it is told so by an error.
TRAPS = """
CREATE SCHEMA trap;
CREATE FUNCTION trap.spring(what text) RETURNS void LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''trapped: %'', what; END';
DO $$
DECLARE f record;
BEGIN
    FOR f IN
        SELECT proname, pg_catalog.pg_get_function_identity_arguments(oid) AS arguments,
               prorettype::pg_catalog.regtype AS result
          FROM pg_catalog.pg_proc
         WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND proname = ANY ({words})
           AND prokind = 'f' AND NOT proretset AND provariadic = 0
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t
                            WHERE t.oid = ANY (proargtypes::oid[] || prorettype) AND t.typtype = 'p')
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE FUNCTION trap.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L',
            f.proname, f.arguments, f.result,
            pg_catalog.format('BEGIN RAISE EXCEPTION ''trapped: %s''; END', f.proname));
    END LOOP;
    FOR f IN
        SELECT oprname, oprleft::pg_catalog.regtype AS l, oprright::pg_catalog.regtype AS r,
               oprresult::pg_catalog.regtype AS result, oid
          FROM pg_catalog.pg_operator
         WHERE oprname IN ('=', '<', '<=', '>', '>=', '<>', '||', '+', '-', '*', '/', '%', '~')
           AND {types} @> ARRAY[oprleft::pg_catalog.regtype, oprright::pg_catalog.regtype]
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE FUNCTION trap.op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L',
            f.oid, f.l, f.r, f.result,
            pg_catalog.format('BEGIN RAISE ''trapped: operator %s''; END', f.oid));
        EXECUTE pg_catalog.format(
            'CREATE OPERATOR trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = trap.op_%s)',
            f.oprname, f.l, f.r, f.oid);
    END LOOP;
END $$;
CREATE FUNCTION trap.count(text) RETURNS bigint LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''trapped: count''; END';
CREATE FUNCTION trap.op_of_mixed(integer, float8) RETURNS float8 LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''trapped: operator *''; END';
CREATE OPERATOR trap.* (LEFTARG = integer, RIGHTARG = float8, FUNCTION = trap.op_of_mixed);
"""
PATH = Statement("path", "SELECT pg_catalog.current_setting('search_path')")
TYPES = (
    "'{text, int, bigint, smallint, uuid, bytea, float8, timestamptz, interval, name, oid}'"
    "::pg_catalog.regtype[]"
)
SHADOWS = (
    "message",
    "ready",
    "queue",
    "schema_version",
    "result",
    "pg_namespace",
    "pg_class",
    "text",
    "uuid",
)


def set_traps(url: str) -> None:
    """In front of the server's own, for everybody who connects to the database."""
    words = "ARRAY[" + ", ".join(f"'{word}'" for word in WORDS) + "]::name[]"
    made_of = TRAPS.replace("{words}", words).replace("{types}", TYPES)
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(made_of.encode())
        made = database.execute(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc"
            " WHERE pronamespace = 'trap'::pg_catalog.regnamespace"
        ).fetchone()
        assert made is not None
        assert made[0] > 100
        name = urlsplit(url).path[1:]
        database.execute(f"ALTER DATABASE {name} SET search_path = trap, public, pg_catalog")
    with psycopg.connect(url) as database, pytest.raises(psycopg.errors.RaiseException, match="trapped: now"):
        database.execute("SELECT now()")


def use(url: str, **options: object) -> None:
    """Publish, hold, claim, settle, broadcast, count, purge; store a result and wait for it."""
    with Connection(url, transport_options=options) as connection, connection.channel() as channel:
        queue = Queue("q", Exchange("x", type="topic"), routing_key="k.*")(channel)
        queue.declare()
        log = Queue("log", Exchange("l", type="fanout"), exclusive=True, durable=False)(channel)
        log.declare()
        producer = connection.Producer(channel)
        for number in range(3):
            producer.publish(number, exchange="x", routing_key="k.n", headers={"id": str(number)})
        producer.publish("all", exchange="l")
        assert log.get(no_ack=True).payload == "all"
        queue.get().ack()
        queue.get().reject(requeue=True)
        assert queue.purge() >= 1
    app = Celery("app", broker=url, backend=url, set_as_current=False)
    app.conf.result_backend_transport_options = options
    app.backend.store_result("id", 1, "SUCCESS")
    assert app.AsyncResult("id").get(timeout=10) == 1
    app.backend.result_consumer.stop()
    app.backend._results.close()
    app.close()


def look(url: str) -> None:
    target = dsn.parse(url)
    found = examine(Patient(target, Options.parse(target.options), patience_s=60, needs=())).findings
    assert not [f for f in found if "trapped" in f.said or "not looked at" in f.said]
    assert not [f for f in found if f.severity == PROBLEM and f.check not in ("durability", "notifications")]


def test_direct(empty_database_url: str) -> None:
    """Setting up, using and looking spring no trap, and no object of ours leads to one."""
    set_traps(empty_database_url)
    schema.upgrade(dsn.parse(empty_database_url), "celery")
    use(empty_database_url)
    look(empty_database_url)
    assert led_astray(empty_database_url) == []


def test_script(empty_database_url: str) -> None:
    """The SQL for somebody else to execute, in a session whose path is his own."""
    set_traps(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as database:
        database.execute(schema.script("celery").encode())
    assert led_astray(empty_database_url) == []
    use(empty_database_url)


def led_astray(url: str) -> list[tuple[str, ...]]:
    """Views, defaults and constraints of ours that were built on something in the other schema."""
    with psycopg.connect(url) as database:
        return database.execute(
            """SELECT d.classid::pg_catalog.regclass::pg_catalog.text, d.objid::pg_catalog.text
                 FROM pg_catalog.pg_depend d
                WHERE d.deptype OPERATOR(pg_catalog.=) 'n' AND (
                      d.refobjid OPERATOR(pg_catalog.=) ANY (ARRAY (SELECT oid FROM pg_catalog.pg_proc
                       WHERE pronamespace OPERATOR(pg_catalog.=) 'trap'::pg_catalog.regnamespace))
                  OR d.refobjid OPERATOR(pg_catalog.=) ANY (ARRAY (SELECT oid FROM pg_catalog.pg_operator
                       WHERE oprnamespace OPERATOR(pg_catalog.=) 'trap'::pg_catalog.regnamespace)))
                  AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_proc'::pg_catalog.regclass
                  AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_operator'::pg_catalog.regclass"""
        ).fetchall()


@pytest.mark.parametrize("shadowed", [False, True], ids=["functions", "temporary tables"])
def test_through_a_pooler(empty_database_url: str, shadowed: bool) -> None:
    """Nothing can be set for a session that others have, too, so it is set for each transaction."""
    schema.upgrade(dsn.parse(empty_database_url), "celery")
    if not shadowed:
        set_traps(empty_database_url)
    with pooler(empty_database_url, size=1) as url:
        if shadowed:
            with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
                for name in SHADOWS:
                    other.execute(f'CREATE TEMPORARY TABLE "{name}" (nothing int)')
        use(url)
        look(url)


def test_own_session_with_temporary_tables(empty_database_url: str) -> None:
    """The path of our sessions ends with the temporary schema instead of beginning with it."""
    session, _ = Database(dsn.parse(empty_database_url), Options()).open()
    assert session.run((PATH, ()))[0].text(0, 0) == "pg_catalog, pg_temp"
    session.close()
