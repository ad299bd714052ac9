"""What `docs/operations.md` says about roles and rights."""

from __future__ import annotations

import logging
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest
from kombu import Connection

from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def role(empty_database_url: str) -> Iterator[str]:
    """A role that may log in and nothing else, by its URL."""
    name, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(empty_database_url, autocommit=True) as database:
        try:
            database.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        except psycopg.errors.InsufficientPrivilege:
            pytest.skip("this user may not create roles")
        url = urlsplit(empty_database_url)
        where = url.netloc.rpartition("@")[2]
        yield url._replace(netloc=f"{name}:{password}@{where}").geturl()
        database.execute("DROP SCHEMA IF EXISTS celery CASCADE")
        database.execute(f"DROP ROLE {name}")


def test_role_with_the_grants_alone(
    empty_database_url: str, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What `migrate --sql --role` prints is enough to publish, consume and sweep, and for no more."""
    command = [str(Path(sys.executable).with_name("celery-postgres")), "--url", empty_database_url]
    script = subprocess.run(
        [*command, "migrate", "--sql", "--role", str(urlsplit(role).username)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    with psycopg.connect(empty_database_url, autocommit=True) as database:
        database.execute(script.encode())
    caplog.set_level(logging.WARNING, "celery_postgres")
    got: list[Any] = []
    with Connection(role) as connection:
        channel = connection.channel()
        channel.exchange_declare("sides", "topic", durable=True)
        channel.queue_declare("left", durable=True, auto_delete=False)
        channel.queue_bind("left", "sides", "side.*")
        channel.basic_consume("left", callback=got.append)
        message = channel.prepare_message(b"body", properties={})
        channel.basic_publish(message, exchange="sides", routing_key="side.left")
        connection.drain_events(timeout=10)
        got[0].ack()
        with psycopg.connect(role, autocommit=True) as database:
            eventually(
                lambda: database.execute(
                    "SELECT 1 FROM celery.consumer WHERE beat_at > started_at"
                ).fetchone()
            )
        channel.queue_delete("left")
    assert not caplog.records
    with psycopg.connect(role, autocommit=True) as database:
        for forbidden in ("CREATE TABLE celery.other ()", "DROP TABLE celery.ready", "CREATE SCHEMA other"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                database.execute(forbidden)


def test_role_without_rights_is_told_what_to_run(role: str) -> None:
    """Where the role may not create the schema, the error names the command for somebody who may."""
    with Connection(role) as connection, pytest.raises(ValueError, match="migrate --sql --role"):
        connection.connect()
