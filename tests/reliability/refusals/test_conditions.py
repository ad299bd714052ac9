"""Conditions that a server can really be in: locked, full, without a slot, with time limits of the role."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest
from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from celery_postgres.errors import DatabaseRejected, DatabaseUnavailable
from tests.fixtures.database import new_database
from tests.fixtures.pooler import pooler
from tests.fixtures.standby import execute
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.embedded import EmbeddedPostgres

BLOCKED = """SELECT query_start FROM pg_stat_activity
 WHERE wait_event_type = 'Lock' AND datname = current_database()"""


@pytest.fixture
def url(database_url: str) -> str:
    """A database with a queue `q`."""
    with Connection(database_url) as connection:
        Queue("q")(connection.channel()).declare()
    return database_url


@pytest.fixture
def role(database_url: str) -> Iterator[str]:
    """The URL of a superuser with no settings of its own yet."""
    name, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(8)
    execute(database_url, f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{password}'")
    parts = urlsplit(database_url)
    yield parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()
    execute(database_url, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


def name_of(url: str) -> str:
    return urlsplit(url).username or ""


def publish(url: str, body: object = "x", **options: object) -> None:
    with Connection(url, transport_options=options) as connection:
        connection.Producer(routing_key="q").publish(body, retry=False)


def stored(url: str) -> object:
    return execute(url, "SELECT count(*) FROM celery.message")[0][0]


class TestLock:
    """Somebody holds a lock on the table of messages."""

    def test_is_waited_for(self, url) -> None:
        """Over several lock time-outs, until it is free."""
        with ThreadPoolExecutor(1) as pool, psycopg.connect(url) as holder:
            holder.execute("LOCK TABLE celery.message")
            publishing = pool.submit(publish, url, lock_timeout=0.5)
            eventually(lambda: execute(url, BLOCKED), what="the publisher waits")
            time.sleep(0.7)  # at least one time-out passes
            holder.rollback()
            publishing.result(20)
        assert stored(url) == 1

    def test_that_stays_is_an_error(self, url) -> None:
        """Of what the caller knows: nothing was stored, and where to look for who holds it."""
        with psycopg.connect(url) as holder:
            holder.execute("LOCK TABLE celery.message")
            with pytest.raises(DatabaseRejected, match="find in pg_locks who holds the lock") as told:
                publish(url, lock_timeout=0.05)
        assert told.value.sqlstate == "55P03"
        assert stored(url) == 0

    def test_is_no_longer_waited_for_than_publish_timeout(self, url) -> None:
        """The server is told to give up, too: the outcome is known, and nothing is stored later."""
        begin = time.monotonic()
        with psycopg.connect(url) as holder:
            holder.execute("LOCK TABLE celery.message")
            with pytest.raises(DatabaseRejected) as told:
                publish(url, publish_timeout=0.5)
            assert not execute(url, BLOCKED)
        assert told.value.sqlstate == "57014"
        assert time.monotonic() - begin < 15
        assert stored(url) == 0


@pytest.mark.parametrize(
    "setting",
    [
        "statement_timeout = '50ms'",
        "lock_timeout = '1ms'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "synchronous_commit = off",
        "search_path = ''",
        pytest.param("idle_session_timeout = '50ms'", id="idle_session_timeout"),
    ],
)
def test_settings_of_the_role(url, role, database_url, setting) -> None:
    """Ours win, in a session of our own."""
    if setting.startswith("idle_session") and execute(role, "SHOW server_version_num") < [("140000",)]:
        pytest.skip("not run: no idle_session_timeout before PostgreSQL 14")
    execute(role, f"ALTER ROLE {name_of(role)} SET {setting}")
    with Connection(role) as connection:
        producer = connection.Producer(routing_key="q")
        for _ in range(20):
            producer.publish("x", retry=False)
        time.sleep(0.2)
        producer.publish("x", retry=False)
    assert stored(database_url) == 21


class TestPooler:
    """Nothing can be set in a session behind a transaction pooler."""

    def test_timeouts_of_the_role(self, url, role) -> None:
        """Each transaction sets its own, so that a publish bears a lock that the role's would not."""
        execute(
            role,
            f"ALTER ROLE {name_of(role)} SET statement_timeout = '200ms'",
            f"ALTER ROLE {name_of(role)} SET lock_timeout = '50ms'",
        )
        with (
            pooler(role) as pooled,
            psycopg.connect(url) as holder,
            ThreadPoolExecutor(1) as pool,
        ):
            execute(pooled, "SELECT 1")
            holder.execute("LOCK TABLE celery.message")
            publishing = pool.submit(publish, pooled)
            eventually(lambda: execute(url, BLOCKED), what="the publisher waits")
            waiting = execute(url, BLOCKED)
            time.sleep(0.5)
            assert execute(url, BLOCKED) == waiting
            holder.rollback()
            publishing.result(20)
        assert stored(url) == 1

    def test_role_that_only_reads_is_told(self, url, role) -> None:
        """That cannot be undone from inside a transaction: an error that says so."""
        execute(role, f"ALTER ROLE {name_of(role)} SET default_transaction_read_only = on")
        with pooler(role) as pooled, pytest.raises(DatabaseUnavailable, match="only reads"):
            publish(pooled)


class TestSlots:
    """The role has no session left."""

    @pytest.fixture
    def limited(self, database_url: str) -> Iterator[str]:
        """The URL of a role that may have one session, with the schema set up."""
        with Connection(database_url) as connection:
            Queue("q")(connection.channel()).declare()
        name, password = f"limited_{secrets.token_hex(4)}", secrets.token_hex(8)
        execute(
            database_url,
            f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 1 PASSWORD '{password}'",
            f"GRANT USAGE ON SCHEMA celery TO {name}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA celery TO {name}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA celery TO {name}",
        )
        parts = urlsplit(database_url)
        yield parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()
        execute(database_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")

    def test_who_starts_waits_for_one(self, limited, database_url) -> None:
        """Inside the attempt to connect, which succeeds as soon as a session has ended."""
        with ThreadPoolExecutor(1) as pool, psycopg.connect(limited) as holder:
            starting = pool.submit(publish, limited, connect_timeout=20)
            time.sleep(0.5)
            assert not starting.done()
            holder.close()
            starting.result(20)
        assert stored(database_url) == 1

    def test_attempts_are_few(self, limited) -> None:
        """No tight loop: in two seconds it is asked about ten times, and then the error says what to do."""
        attempts: list[float] = []
        real = psycopg.Connection.connect

        def counting(*args: object, **kwargs: object) -> object:
            begin = time.monotonic()
            try:
                return real(*args, **kwargs)  # type: ignore[arg-type]
            finally:
                attempts.append(time.monotonic() - begin)

        with psycopg.connect(limited), pytest.MonkeyPatch.context() as patch:
            patch.setattr("celery_postgres.connection.psycopg.Connection.connect", counting)
            connection = Connection(limited, transport_options={"connect_timeout": 2})
            with pytest.raises(DatabaseUnavailable, match="CONNECTION LIMIT") as told:
                connection.transport.establish_connection()
        assert told.value.crowded
        # One that took all of the time, on a machine that stood still, leaves none for another.
        assert len(attempts) >= 2 or attempts[0] > 1
        assert len(attempts) <= 20

    def test_publisher_gets_the_error(self, limited) -> None:
        """What kombu raises for every broker."""
        policy = {"max_retries": 1, "interval_start": 0}
        connection = Connection(limited, transport_options={"connect_timeout": 2})
        with psycopg.connect(limited), pytest.raises(OperationalError, match="max_connections"):
            connection.Producer(routing_key="q").publish("x", retry=True, retry_policy=policy)

    def test_sessions_that_are_there_go_on(self, limited, database_url) -> None:
        """Others in front of the door do not disturb who is inside."""
        with ExitStack() as stack, Connection(limited) as connection:
            producer = connection.Producer(routing_key="q")
            producer.publish("x", retry=False)
            stopped = threading.Event()

            def knock() -> None:
                while not stopped.is_set():
                    with pytest.raises(psycopg.OperationalError):
                        psycopg.connect(limited)

            pool = stack.enter_context(ThreadPoolExecutor(4))
            knocking = [pool.submit(knock) for _ in range(4)]
            for _ in range(100):
                producer.publish("x", retry=False)
            stopped.set()
            for future in knocking:
                future.result(10)
        assert stored(database_url) == 101


@pytest.fixture
def small_disk(embedded_server: EmbeddedPostgres) -> Iterator[Path]:
    """A folder of 40 MB that the server's account can write to; skips where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-", dir="/tmp"))
    command = ["mount", "-t", "tmpfs", "-o", "size=40m,mode=0777", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("not run: a tmpfs cannot be mounted here")
    try:
        yield folder
    finally:
        embedded_server.stop()
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder)


@pytest.mark.timeout(600)
def test_disk_full(embedded_server: EmbeddedPostgres, small_disk: Path) -> None:
    """A publisher waits for space and goes on when there is some; what it was told is stored is stored."""
    space, ballast = small_disk / "space", small_disk / "ballast"
    space.mkdir()
    os.chown(space, embedded_server.data_path.stat().st_uid, embedded_server.data_path.stat().st_gid)
    space.chmod(0o700)
    execute(embedded_server.url, f"CREATE TABLESPACE small LOCATION '{space}'")
    with new_database(embedded_server.url) as url:
        execute(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET default_tablespace = 'small'")
        ballast.write_bytes(bytes(20 * 1024 * 1024))
        confirmed = 0
        with Connection(url, transport_options={"publish_timeout": 1}) as connection:
            producer = connection.Producer(routing_key="q")
            Queue("q")(connection.channel()).declare()
            with pytest.raises(DatabaseRejected, match="free space on the server's disk") as told:  # noqa: PT012
                for _ in range(100):
                    producer.publish(secrets.token_bytes(1024 * 1024), retry=True)
                    confirmed += 1
            assert told.value.sqlstate == "53100"
            assert stored(url) == confirmed > 0
        with ThreadPoolExecutor(1) as pool:
            body = secrets.token_bytes(1024 * 1024)
            waiting = pool.submit(publish, url, body, publish_timeout=60)
            time.sleep(0.5)
            assert not waiting.done()
            ballast.unlink()
            waiting.result(60)
        assert stored(url) == confirmed + 1
