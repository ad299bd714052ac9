"""A broker that cannot be used says why, and what to do, without its password; the others go on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres.compare import Broker, Call, Comparison, Request
from celery_postgres.compare.contenders import PREFIX
from celery_postgres.compare.failure import Failure
from celery_postgres.compare.places import place_of
from tests.fixtures.database import given_url

from .servers import RABBITMQ, arena, require

if TYPE_CHECKING:
    from tests.fixtures.database import EmbeddedPostgres

NAME = f"{PREFIX}00000000"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:s3cret@127.0.0.1:1/0", r"no Redis answers at redis://:\*\*@127.0.0.1:1/0 .*: start it"),
        ("amqp://me:s3cret@127.0.0.1:1//", r"no RabbitMQ answers at amqp://me:\*\*@127.0.0.1:1// .*: start"),
        ("postgresql://me:s3cret@127.0.0.1:1/x", r"no PostgreSQL lets us in .*: start it, or correct"),
        ("sqla+postgresql+psycopg://me:s3cret@127.0.0.1:1/x", r"no PostgreSQL lets us in .*: start it"),
        ("sqla+mysql://me:s3cret@127.0.0.1:1/x", r"tables would clash .*: give sqla\+postgresql"),
        ("sqla+sqlite:////nonexistent/x", r"no folder /nonexistent for SQLite: make it"),
    ],
)
def test_unreachable(url: str, said: str) -> None:
    with pytest.raises(Failure, match=said) as raised:
        place_of(url, NAME).reach()
    assert "s3cret" not in str(raised.value)


def test_unknown_kind() -> None:
    with pytest.raises(
        Failure, match=r"sqs:// is not known as a broker to compare: take one of postgresql://"
    ):
        place_of("sqs://key:s3cret@", NAME)


def test_wrong_password_of_rabbitmq() -> None:
    require("RabbitMQ", 5672)
    with pytest.raises(Failure, match=r"guest:\*\*@.* does not let us in .*: correct user, password"):
        place_of(RABBITMQ.replace(":guest@", ":s3cret@"), NAME).reach()


def test_wrong_password_of_redis(tmp_path) -> None:
    """Of a server that asks for one."""
    import shutil
    import socket
    import subprocess

    from tests.fixtures.waiting import eventually

    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed, to start one with a password")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--port", str(port), "--requirepass", "right", "--dir", str(tmp_path), "--save", ""]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        right = place_of(f"redis://:right@127.0.0.1:{port}/0", NAME)

        def answers() -> bool:
            try:
                right.reach()
            except Failure:
                return False
            return True

        eventually(answers, timeout_s=10)
        for credentials in (":s3cret@", ""):
            with pytest.raises(Failure, match=r"does not let us in .*: correct user and password") as raised:
                place_of(f"redis://{credentials}127.0.0.1:{port}/0", NAME).reach()
            assert "s3cret" not in str(raised.value)
        right.close()
    finally:
        server.terminate()
        server.wait()


def test_wrong_password_of_postgresql(embedded_server: EmbeddedPostgres) -> None:
    wrong = re.sub(r":[^:@]+@", ":s3cret@", embedded_server.url)
    with pytest.raises(Failure, match=r"password authentication failed .*: start it, or correct") as raised:
        place_of(wrong, NAME).reach()
    assert "s3cret" not in str(raised.value)


def test_role_without_rights(database_url: str, server: str, pytestconfig: pytest.Config) -> None:
    """The GRANT that is missing is told, and a prepared schema does instead."""
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute("CREATE ROLE compare_poor LOGIN PASSWORD 'poor'")
        try:
            poor = re.sub(r"//[^@]*@", "//compare_poor:poor@", database_url)
            if given_url(pytestconfig) and "@" not in database_url:
                pytest.skip("DATABASE_URL names no user to replace")
            with (
                pytest.raises(Failure, match=r"GRANT CREATE ON DATABASE .*; or have"),
                arena(poor),
            ):
                pass
            database.execute("CREATE SCHEMA ready; GRANT USAGE, CREATE ON SCHEMA ready TO compare_poor")
            with arena(poor, prepared_schema="ready") as made:
                made.send("noop")
                assert made.waiting() == 1
            (left,) = database.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'ready'").fetchone()
            assert left == 0
        finally:
            database.execute("DROP SCHEMA IF EXISTS ready CASCADE; DROP ROLE compare_poor")


def test_the_others_go_on(database_url: str) -> None:
    """What is wrong with one stands in the report; the rest is compared."""
    others = (Broker("redis://127.0.0.1:1/0"), Broker("sqs://"), Broker("redis://127.0.0.1:1/0"))
    asked = Request(Broker(database_url), others, concurrency=1, rounds=1, visit_s=1.0, only="speed")
    comparison = Comparison(asked, ["compare"], print)
    comparison.run()
    found = {contender.name: contender.failure for contender in comparison.report.contenders}
    assert list(found) == ["PostgreSQL", "Redis", "sqs", "Redis 2"]
    assert found["PostgreSQL"] is None
    assert all(found[name] for name in ("Redis", "sqs", "Redis 2"))
    assert [arena.name for arena in comparison.arenas] == ["PostgreSQL"]
    assert {name for measure in comparison.report.measures for name in measure.rounds} == {"PostgreSQL"}


@pytest.mark.parametrize(
    ("application", "task", "said"),
    [
        ("tests.compare.shop", "shop.oder", r"know no task shop.oder, only shop.order, .*: correct the name"),
        (
            "tests.compare.nowhere",
            "shop.order",
            r"tests.compare.nowhere cannot be imported \(ModuleNotFoundError: No module .*: run this in the",
        ),
        ("tests.compare.shop", "shop.refuse", r"shop.refuse failed with ValueError: sold out: try it"),
    ],
)
def test_application(application: str, task: str, said: str, database_url: str) -> None:
    """An application that cannot be imported, a task that it does not have, and one that fails."""
    calls = (Call(task),)
    asked = Request(Broker(database_url), application=application, calls=calls, concurrency=1, only="speed")
    comparison = Comparison(asked, ["compare"], print)
    comparison.run()
    (contender,) = comparison.report.contenders
    assert contender.failure
    assert re.search(said, contender.failure), contender.failure
