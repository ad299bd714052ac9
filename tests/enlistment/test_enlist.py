"""Tasks that belong to a transaction of the application: there once it commits, and not before."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
import traceback
from uuid import uuid4

import psycopg
import pytest
from celery import group
from celery.app.trace import build_tracer
from kombu import Connection, Exchange, Producer, Queue
from psycopg.rows import dict_row, namedtuple_row, scalar_row
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from celery_postgres import ConfigurationError, enlist
from celery_postgres.errors import DatabaseRejected, NoRoute, NotFound
from celery_postgres.rights import script
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


def test_asynchronous_session_in_run_sync(shop):
    """Where the Session that is given there waits for the driver."""
    shop.send("declares the queue")

    async def order(*, commits):
        engine = create_async_engine(shop.url.replace("postgresql://", "postgresql+psycopg://", 1))
        async with AsyncSession(engine) as session:

            def send(within):
                with enlist(within):
                    return shop.send(1)

            sent = await session.run_sync(send)
            assert sent not in shop.waiting()
            await (session.commit() if commits else session.rollback())
        await engine.dispose()
        return sent

    kept = asyncio.run(order(commits=True))
    asyncio.run(order(commits=False))
    assert shop.waiting()[1:] == [kept]


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


def test_retry_outlives_the_rollback_that_it_causes(shop):
    """`self.retry()` publishes, and ends the task by an exception, which ends the transaction too."""

    @shop.app.task(bind=True, name="shop.retry", max_retries=5)
    def retry(self):
        with psycopg.connect(shop.url) as connection, enlist(connection):
            shop.send("rolled back")
            raise self.retry(countdown=0)

    shop.send("declares the queue")
    task_id = uuid4().hex
    outcome = build_tracer(retry.name, retry, app=shop.app)(task_id, (), {}, {"id": task_id, "retries": 0})
    assert outcome.info.state == "RETRY"
    assert shop.waiting()[1:] == [task_id]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_queue_that_the_transaction_is_too_old_to_see(shop, level):
    """The task would be routed nowhere, and nobody would hear of it."""
    with psycopg.connect(shop.url) as connection:
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        connection.execute("SELECT count(*) FROM pg_class")
        with enlist(connection), pytest.raises(ConfigurationError, match="does not see the queue"):
            shop.send(1)
    with psycopg.connect(shop.url) as connection, enlist(connection):
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        sent = shop.send(1)
    assert shop.waiting() == [sent]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("others", [(), ("older",)], ids=["it alone", "an older one too"])
def test_binding_that_the_transaction_is_too_old_to_see(shop, level, others):
    """The exchange is there, and perhaps one of its queues: the others would not get it."""
    exchange = Exchange("post", "topic")
    with Connection(shop.url) as broker, psycopg.connect(shop.url) as connection:
        channel = broker.default_channel
        exchange(channel).declare()
        for name in others:
            Queue(name, exchange, "to.#")(channel).declare()
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        connection.execute("SELECT count(*) FROM pg_class")
        with enlist(connection):
            shop.send(1, exchange="post", routing_key="to.ada")
        Queue("mail", exchange, "to.#")(channel).declare()
        with enlist(connection), pytest.raises(ConfigurationError, match="does not see the queue"):
            shop.send(1, exchange="post", routing_key="to.ada")


@pytest.mark.parametrize("row_factory", [dict_row, namedtuple_row, scalar_row], ids=lambda one: one.__name__)
def test_rows_of_the_application_may_be_anything(shop, row_factory):
    """Also where the exchange has a name."""
    shop.send("declares the queue")
    with Connection(shop.url) as connection:
        Queue("mail", Exchange("post", "topic"), "to.#")(connection.default_channel).declare()
    with psycopg.connect(shop.url, row_factory=row_factory) as database, enlist(database):
        sent = shop.send(1, exchange="post", routing_key="to.ada")
    assert shop.waiting()[1:] == [sent]


def test_message_lives_from_its_publish(shop):
    """And waits from then on, however long the transaction has been open."""
    with Connection(shop.url) as connection:
        Queue("brief", message_ttl=0.5)(connection.default_channel).declare()
    with psycopg.connect(shop.url) as database:
        (begun,) = database.execute("SELECT now() FROM pg_sleep(0.6)").fetchone()
        with enlist(database):
            shop.send(1, queue="brief")
    left = "SELECT expires_at > enqueued_at, enqueued_at >= %s + interval '0.6 s' FROM celery.message"
    assert shop.observer.execute(left, [begun]).fetchall() == [(True, True)]


def test_maximal_length_holds(shop):
    """As far as it is committed: what is sent next sees to it."""
    with Connection(shop.url) as connection:
        Queue("short", max_length=2)(connection.default_channel).declare()
    for number in range(6):
        with psycopg.connect(shop.url) as database, enlist(database):
            shop.send(number, queue="short")
    assert len(shop.waiting()) <= 3


def test_batch_fails_as_a_whole(shop):
    """And cannot be used any more."""
    shop.send("declares the queue")
    with psycopg.connect(shop.url) as database, enlist(database), Connection(shop.url) as connection:
        producer = Producer(connection.channel(), auto_declare=False)
        with pytest.raises(NotFound), producer.batch() as batch:  # noqa: PT012
            producer.publish(1, routing_key="celery")
            producer.publish(2, exchange="nowhere", routing_key="any")
            batch.flush()
    assert len(shop.waiting()) == 1


def test_copied_context_in_another_thread(shop):
    """`asyncio.to_thread` takes the context along: what is sent there is not the transaction's."""
    shop.send("declares the queue")
    with psycopg.connect(shop.url) as connection:
        with enlist(connection):
            asyncio.run(asyncio.to_thread(shop.send, 1))
            assert len(shop.waiting()) == 2
        connection.rollback()


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


def test_transaction_that_ended_within_the_block(shop):
    """Each message is asked for anew."""
    shop.send("declares the queue")
    with psycopg.connect(shop.url, autocommit=True) as connection, enlist(connection):
        with connection.transaction():
            first = shop.send(1)
        with pytest.raises(ConfigurationError, match="in no transaction"):
            shop.send(2)
    assert shop.waiting()[1:] == [first]


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


def test_role_of_a_producer(shop):
    """What `grants` gives a producer is enough, also for a queue that the producer cannot trim."""
    with shop.app.connection_for_write() as connection:
        Queue("short", max_length=1, channel=connection.channel()).declare()
    with psycopg.connect(shop.url) as connection:
        connection.execute("CREATE ROLE shop_seller")
        connection.execute(script("celery", {"producer": "shop_seller"}).encode())
        connection.execute("SET LOCAL ROLE shop_seller")
        with enlist(connection):
            sent = [shop.send(number, queue="short") for number in range(2)]
            sent.append(shop.send(2, countdown=3600))
        connection.execute("RESET ROLE")
        connection.execute("DROP OWNED BY shop_seller; DROP ROLE shop_seller")
    assert shop.waiting() == sent


def test_trim_that_is_refused_takes_nothing_along(shop, caplog):
    """The message is in the application's transaction; what a full queue drops is another matter."""
    with shop.app.connection_for_write() as connection:
        Queue("short", max_length=1, channel=connection.channel()).declare()
    first = shop.send(1, queue="short")
    shop.observer.execute(f"ALTER DATABASE {shop.observer.info.dbname} SET lock_timeout = '100ms'")
    with psycopg.connect(shop.url) as holder, psycopg.connect(shop.url) as connection:
        holder.execute("LOCK celery.unacked IN ACCESS EXCLUSIVE MODE")
        with enlist(connection):
            sent = shop.send(2, queue="short")
        assert "a message was stored, and what follows was left undone" in caplog.text
    assert shop.waiting() == [first, sent]


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


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_link_that_breaks_tells_nothing_of_the_message(shop, driver):
    """The server says nothing then, and SQLAlchemy quotes the parameters."""
    shop.send("declares the queue")
    secret = secrets.token_hex()
    engine = create_engine(shop.url.replace("postgresql://", f"postgresql+{driver}://", 1))
    with Session(engine) as session, enlist(session):
        shop.send(1)
        raw = session.connection().connection.driver_connection
        with socket.socket(fileno=os.dup(raw.fileno())) as link:
            link.shutdown(socket.SHUT_RDWR)
        with pytest.raises(DatabaseRejected, match="the application's connection failed") as caught:
            shop.send(secret)
    engine.dispose()
    assert secret not in "".join(traceback.format_exception(caught.value))
    assert len(shop.waiting()) == 1


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
