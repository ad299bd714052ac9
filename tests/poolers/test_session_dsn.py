"""`session_dsn`: which sessions go there, what it inherits, and what is wrong with it is said at once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from click.testing import CliRunner
from kombu import Connection

from celery_postgres import direct, dsn
from celery_postgres.cli import main
from celery_postgres.connection import Database
from celery_postgres.errors import ConfigurationError
from celery_postgres.options import Options
from tests.fixtures.database import new_database

if TYPE_CHECKING:
    from tests.fixtures.pooler import Pooler


def database(url: str, session_dsn: str) -> Database:
    return Database(dsn.parse(url), Options(session_dsn=session_dsn))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://db:5433", "postgresql://me:pw@db:5433/shop?sslmode=require"),
        ("postgresql://db/other", "postgresql://me:pw@db/other?sslmode=require"),
        ("postgresql://me@db", "postgresql://me:pw@db/shop?sslmode=require"),
        ("postgresql://you@db", "postgresql://you@db/shop?sslmode=require"),
        ("postgresql://you:x@db?sslmode=disable", "postgresql://you:x@db/shop?sslmode=disable"),
        (
            "postgresql:///?host=/run/postgresql",
            "postgresql://me:pw@%2Frun%2Fpostgresql/shop?sslmode=require",
        ),
        ("postgres+psycopg2://db", "postgresql://me:pw@db/shop?sslmode=require"),
    ],
)
def test_what_it_leaves_out_is_that_of_the_url(given: str, expected: str) -> None:
    """User, password, database, TLS; never a host or port, nor the password of somebody else."""
    made = direct.for_sessions(database("postgresql://me:pw@pooler:6432/shop?sslmode=require", given))
    assert made.dsn.conninfo == dsn.parse(expected).conninfo
    assert made.options.session_dsn is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("postgresql://", "which names no host"),
        ("postgresql://me:xq-never@/shop?port=5432", "which names no host"),
        (
            "postgresql://me:xq-never@db?grace=5",
            "session_dsn holds the option 'grace': write it into the URL",
        ),
        ("postgresql://me:xq-never@db?pooled=maybe", "true, false or auto"),
        ("postgresql://me:xq-never@db:nonsense", "a port is not a number"),
    ],
)
def test_bad_addresses(given: str, said: str) -> None:
    """Refused where the connection is made, without a password."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        direct.for_sessions(database("postgresql://h/db", given))
    assert "xq-never" not in str(caught.value)


def test_which_sessions_go_there(pooler: Pooler, database_url: str) -> None:
    """Those of a consumer; who only publishes has none."""
    url = f"{pooler.url}?session_dsn={quote(database_url, safe='')}"
    pids = "SELECT pid FROM pg_stat_activity"  # the pooler tells others than the server's
    with Connection(url) as connection, psycopg.connect(database_url, autocommit=True) as database:
        queue = connection.SimpleQueue("q")
        queue.put(1)
        transport = connection.transport
        assert transport.commands._server.pooled
        assert (transport.commands.session.backend_pid,) not in database.execute(pids).fetchall()
        message = queue.get(timeout=10)
        assert not transport.intake.pooled
        assert (transport.intake.session.backend_pid,) in database.execute(pids).fetchall()
        message.ack()
        queue.close()


def test_another_database_is_refused(pooler: Pooler, server: str) -> None:
    """Workers would wait for ever there; publishers do not need to know."""
    with new_database(server) as elsewhere:
        url = f"{pooler.url}?session_dsn={quote(elsewhere, safe='')}"
        with Connection(url) as connection:
            queue = connection.SimpleQueue("q")
            queue.put(1)
            with pytest.raises(ConfigurationError, match="another database than") as caught:
                queue.get(timeout=5)
            assert urlsplit(elsewhere).path in str(caught.value)


def test_check_tells_of_it(pooler: Pooler, database_url: str) -> None:
    """`celery-postgres check` says where the sessions go, without a password."""
    with Connection(database_url) as connection:
        connection.connect()
    password = urlsplit(database_url).password
    url = f"{pooler.url}?session_dsn={quote(database_url, safe='')}"
    done = CliRunner().invoke(main, ["--url", url, "check"])
    assert done.exit_code == 0, done.output
    assert "pooler     yes: transaction mode" in done.stdout
    assert f"{urlsplit(database_url).port}{urlsplit(database_url).path}, directly" in done.stdout
    assert password is None or f":{password}@" not in done.stdout
    through = CliRunner().invoke(
        main, ["--url", f"{url.partition('?')[0]}?session_dsn={pooler.url}", "check"]
    )
    assert "also behind a pooler" in through.stdout
