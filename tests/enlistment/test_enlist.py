"""Tasks that belong to a transaction of the application: there once it commits, and not before."""

from __future__ import annotations

import secrets
import threading
import traceback

import psycopg
import pytest
from celery import group
from kombu import Connection, Producer
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from celery_postgres import ConfigurationError, enlist
from celery_postgres.errors import DatabaseRejected, NoRoute, NotFound
from tests.acceptance.apps.probe import digest
from tests.fixtures.broker import count_rows
from tests.fixtures.waiting import eventually

from .conftest import django_connection


class _WrongError(Exception):
    """The application's own."""


def test_task_is_there_once_committed(shop, begin):
    """And what the application wrote with it."""
    shop.send("declares the queue")
    with begin() as (connection, execute), enlist(connection):
        execute("INSERT INTO shop_order VALUES (1)")
        sent = shop.send(1, "50 %", {"of": "\u20ac"})
        assert sent not in shop.waiting()
    assert shop.waiting()[1:] == [sent]
    assert shop.orders() == 1


def test_task_is_gone_after_a_rollback(shop, begin):
    """Also if the application fails behind the block."""
    shop.send("declares the queue")
    with pytest.raises(_WrongError), begin() as (connection, execute):  # noqa: PT012
        with enlist(connection):
            shop.send(1)
        execute("INSERT INTO shop_order VALUES (1)")
        raise _WrongError
    assert len(shop.waiting()) == 1
    assert shop.orders() == 0


def test_enlisted_task_runs_as_sent(site):
    """A worker that only wakes by notifications runs it at once, with all that was sent."""
    slow = {"poll_interval": 60, "max_poll_interval": 60}
    site.worker("-Q", "celery", broker_transport_options=slow)
    marker = site.send("record")
    site.record.wait_for_one(marker)
    payload = {"text": "50 % \u20ac \0 \ud800", "number": 1.5}
    with psycopg.connect(site.broker.url) as connection:
        with enlist(connection):
            plain = site.send("record")
            echo = site.send("echo", payload, priority=7, headers={"of": "mine"})
        assert site.record.of(plain) == []
    entry = site.record.wait_for_one(echo)
    assert entry.priority == 7
    assert entry.note == digest(payload)
    site.record.wait_for_one(plain)


def test_everything_that_publishes_belongs_to_it(shop):
    """Groups, chains, what is for later, and batches."""
    add = shop.app.signature("shop.greet", (1,), immutable=True)
    shop.send("declares the queue")
    with psycopg.connect(shop.url) as database:
        with enlist(database):
            group([add, add, add], app=shop.app).apply_async()
            (add | add).apply_async()
            shop.send("later", countdown=3600)
            with Connection(shop.url) as connection:
                producer = Producer(connection.channel())
                with producer.batch():
                    for number in range(3):
                        producer.publish(number, routing_key="celery")
        assert len(shop.waiting()) == 1
    assert len(shop.waiting()) == 1 + 3 + 1 + 1 + 3
    assert count_rows(shop.url, "delayed") == 1


def test_savepoint_takes_back_what_was_sent_in_it(shop):
    """And nothing else."""
    shop.send("declares the queue")
    with psycopg.connect(shop.url) as connection, enlist(connection):
        kept = shop.send("kept")
        with pytest.raises(_WrongError), connection.transaction():  # noqa: PT012
            shop.send("taken back")
            raise _WrongError
    assert shop.waiting()[1:] == [kept]


def test_block_ends(shop):
    """Behind it, and in other threads, a task is sent by itself."""
    shop.send("declares the queue")
    with psycopg.connect(shop.url) as connection:
        with enlist(connection):
            other = threading.Thread(target=shop.send, args=("other thread",))
            other.start()
            other.join()
            assert len(shop.waiting()) == 2
        shop.send("behind")
        assert len(shop.waiting()) == 3
        connection.rollback()
    assert len(shop.waiting()) == 3


def test_committing_inside_the_block(shop):
    """A Session that commits goes on in its next transaction."""
    shop.send("declares the queue")
    engine = create_engine(shop.url.replace("postgresql://", "postgresql+psycopg://", 1))
    with Session(engine) as session, enlist(session):
        first = shop.send(1)
        session.commit()
        assert shop.waiting()[1:] == [first]
        shop.send(2)
        session.rollback()
        third = shop.send(3)
        session.commit()
    engine.dispose()
    assert shop.waiting()[1:] == [first, third]


@pytest.mark.parametrize(
    ("before", "options", "after"),
    [
        ("off", {}, "on"),
        ("local", {}, "local"),
        ("on", {"delivery_mode": 1}, "on"),
        ("off", {"delivery_mode": 1}, "off"),
    ],
)
def test_commit_is_as_durable_as_application_and_message_want(shop, before, options, after):
    """A durable message makes the commit wait for the disk; no message makes it wait less."""
    shop.send("declares the queue")
    with psycopg.connect(shop.url) as connection, enlist(connection):
        connection.execute(f"SET LOCAL synchronous_commit = {before}")
        shop.send(1, **options)
        assert connection.execute("SHOW synchronous_commit").fetchone() == (after,)


def test_what_amqp_refuses(shop):
    """An unknown exchange, or no queue for a mandatory message: the transaction goes on."""
    with psycopg.connect(shop.url) as database, Connection(shop.url) as connection, enlist(database):
        producer = Producer(connection.channel(), auto_declare=False)
        with pytest.raises(NotFound, match="no exchange 'nowhere'"):
            producer.publish(1, exchange="nowhere", routing_key="any")
        with pytest.raises(NoRoute):
            producer.publish(1, routing_key="no queue", mandatory=True)
        database.execute("INSERT INTO shop_order VALUES (1)")
    assert shop.orders() == 1
    assert shop.waiting() == []


# -- what is no transaction on the broker's database -------------------------------------------------------


def test_connection_outside_of_a_transaction(shop):
    """Each statement would commit by itself, which is the opposite of what was asked for."""
    with (
        psycopg.connect(shop.url, autocommit=True) as connection,
        enlist(connection),
        pytest.raises(ConfigurationError, match="in no transaction: begin one first"),
    ):
        shop.send(1)
    engine = create_engine(
        shop.url.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT"
    )
    with (
        Session(engine) as session,
        enlist(session),
        pytest.raises(ConfigurationError, match="in no transaction"),
    ):
        shop.send(1)
    engine.dispose()
    with (
        django_connection(shop.url) as connection,
        enlist(connection),
        pytest.raises(ConfigurationError, match=r"Django has atomic\(\)"),
    ):
        shop.send(1)
    assert shop.waiting() == []


def test_connection_on_another_database(shop, server):
    """The task would be where no worker looks for it."""
    with (
        psycopg.connect(server) as connection,
        enlist(connection),
        pytest.raises(ConfigurationError, match=r"and the broker on another one, \S+: let broker_url name"),
    ):
        shop.send(1)
    assert shop.waiting() == []


def test_role_of_the_application_without_rights(shop):
    """Whoever publishes needs the rights of a producer; the error says how to give them."""
    shop.send("declares the queue")
    with psycopg.connect(shop.url) as connection:
        connection.execute("CREATE ROLE shop_clerk")
        connection.execute("SET LOCAL ROLE shop_clerk")
        remedy = 'as the owner of schema celery run: GRANT USAGE ON SCHEMA "?celery"? TO "?shop_clerk'
        with enlist(connection), pytest.raises(ConfigurationError, match=f"permission denied.*{remedy}"):
            shop.send(1)
        connection.rollback()
    assert len(shop.waiting()) == 1


def test_error_does_not_tell_what_was_sent(shop, begin):
    """Neither does SQLAlchemy's, of which ours is made."""
    shop.send("declares the queue")
    secret = secrets.token_hex()
    with pytest.raises(ConfigurationError) as caught, begin() as (connection, execute):  # noqa: PT012
        execute("CREATE ROLE shop_porter")
        execute("SET LOCAL ROLE shop_porter")
        with enlist(connection):
            shop.send(secret)
    assert "permission denied" in str(caught.value)
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_transaction_that_has_failed(shop):
    """The server's own words, and no attempt after attempt."""
    shop.send("declares the queue")
    with psycopg.connect(shop.url) as connection, enlist(connection):
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT FROM no_such_table")
        with pytest.raises(DatabaseRejected, match="current transaction is aborted"):
            shop.send(1)
        connection.rollback()
    assert len(shop.waiting()) == 1


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (object(), "object is no connection that carries tasks: give enlist"),
        ("postgresql://localhost/app", "str is no connection"),
        (AsyncSession(), "inside run_sync"),
    ],
)
def test_what_is_no_connection(thing, said):
    with pytest.raises(ConfigurationError, match=said), enlist(thing):
        pass


def test_driver_without_our_parameters(shop):
    engine = create_engine("sqlite://")
    with (
        engine.connect() as connection,
        enlist(connection),
        pytest.raises(ConfigurationError, match="cannot use the driver pysqlite of sqlite"),
    ):
        shop.send(1)
    engine.dispose()


def test_lost_connection_is_the_applications(shop):
    """kombu does not connect anew for it."""
    shop.send("declares the queue")
    connection = psycopg.connect(shop.url)
    with enlist(connection):
        shop.send(1)
        pid = connection.info.backend_pid
        shop.observer.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        with pytest.raises(DatabaseRejected, match="terminating connection"):
            shop.send(2)
    connection.close()
    eventually(lambda: len(shop.waiting()) == 1)
