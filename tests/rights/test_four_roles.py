"""What each of the four roles can do, and what it cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import chord
from kombu import Connection

from celery_postgres.errors import ConfigurationError
from tests.fixtures.broker import Broker
from tests.fixtures.record import Record
from tests.fixtures.worker import Site

from .conftest import celery_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from celery import Celery

    from .conftest import Roles


@pytest.fixture
def producer(roles: Roles, new_app: Callable[..., Celery]) -> Iterator[Celery]:
    """An application that publishes and waits, as the role for that."""
    url = roles.url("producer")
    app = new_app(broker_url=url, result_backend=url)
    yield app
    app.backend.result_consumer.stop()
    app.backend._results.close()


@pytest.fixture
def site(roles: Roles, tmp_path: Path) -> Iterator[Site]:
    """Workers and their results, as the role for that."""
    url = roles.url("consumer")
    made = Site(
        Broker(url), Record(tmp_path / "record"), {"result_backend": url, "task_ignore_result": False}
    )
    yield made
    made.close()


def as_role(url: str, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        for statement in statements:
            rows = connection.execute(statement)
        return rows.fetchall() if rows.description else []


def test_worker_and_publisher(roles: Roles, producer: Celery, site: Site) -> None:
    """`delay().get()`, a chord, an ETA, a revoke: with the two roles, which may create nothing."""
    worker = site.worker("-E", pool="prefork")
    add = producer.signature("probe.add", (2, 2), queue="celery")
    assert add.apply_async().get(timeout=20) == 4
    assert add.apply_async(countdown=1).get(timeout=20) == 4
    header = [producer.signature("probe.add", (n, n), queue="celery") for n in range(3)]
    body = producer.signature("probe.record", queue="celery")
    summed = chord(header, body, app=producer).apply_async()
    summed.get(timeout=20)
    assert site.record.wait_for_one(summed.id).args == [[0, 2, 4]]
    later = add.apply_async(countdown=3600)
    later.revoke()
    result = add.apply_async()
    result.get(timeout=20)
    result.forget()
    for task in ("reject_once", "left"):
        site.record.wait_for_one(site.send(task))
    assert worker.stop() == 0
    assert not [line for line in worker.lines if "denied" in line or "ERROR" in line or "failed" in line]
    for purpose in roles.names:
        assert as_role(
            roles.url(purpose),
            "SELECT has_schema_privilege('celery', 'CREATE'),"
            " has_database_privilege(current_database(), 'CREATE')",
        ) == [(False, False)]


PRODUCER_MAY_NOT = [
    "SELECT body FROM celery.message",
    "SELECT headers FROM celery.message",
    "SELECT * FROM celery.message",
    "SELECT task_id FROM celery.message",
    (
        "INSERT INTO celery.message"
        " (uuid, queue_id, priority, exchange, routing_key, headers, properties, body)"
        " VALUES (gen_random_uuid(), 1, 0, '', '', '', '', '') RETURNING body"
    ),
    "UPDATE celery.message SET body = ''",
    "DELETE FROM celery.message",
    "DELETE FROM celery.ready",
    "UPDATE celery.ready SET priority = 9",
    "SELECT body FROM celery.broadcast",
    "SELECT * FROM celery.unacked",
    "SELECT * FROM celery.dead_letter",
    "SELECT * FROM celery.consumer",
    "UPDATE celery.queue SET name = 'x'",
    "DELETE FROM celery.queue",
    (
        "INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta)"
        " VALUES ('x', 'SUCCESS', '', '', '')"
    ),
    "UPDATE celery.result SET meta = ''",
    "SELECT * FROM celery.job",
    "TRUNCATE celery.message",
    "CREATE TABLE celery.mine ()",
    "CREATE SCHEMA mine",
]

MONITOR_MAY_NOT = [
    *(f"SELECT {column} FROM celery.message" for column in ("body", "headers", "properties", "*")),
    *(f"SELECT {column} FROM celery.broadcast" for column in ("body", "headers", "properties", "*")),
    *(f"SELECT {column} FROM celery.result" for column in ("meta", "error", "*")),
    "SELECT meta FROM celery.group_result",
    "SELECT callback FROM celery.chord",
    "SELECT meta FROM celery.chord_part",
    "SELECT nextval('celery.broadcast_id_seq')",
    "DELETE FROM celery.dead_letter",
    "UPDATE celery.queue SET name = 'x'",
    "INSERT INTO celery.exchange VALUES ('x', 'direct', true, false, '')",
    "CREATE TABLE celery.mine ()",
]


@pytest.fixture
def one_waits(roles: Roles, producer: Celery) -> str:
    """The id of a task that waits."""
    return str(producer.send_task("shop.charge", ["4929 1234"], task_id="charge-1").id)


def test_producer_sees_nobodys_messages(roles: Roles, one_waits: str) -> None:
    """Not even its own: it stores bodies and headers and cannot read them again, nor change or delete any."""
    allowed = []
    for statement in PRODUCER_MAY_NOT:
        try:
            as_role(roles.url("producer"), statement)
        except psycopg.errors.InsufficientPrivilege:
            continue
        allowed.append(statement)
    assert allowed == []
    # What it does see, beside results, whosever they are: how many messages there are.
    assert as_role(roles.url("producer"), "SELECT count(id) FROM celery.message") == [(1,)]


def test_monitor_sees_states_and_no_contents(roles: Roles, one_waits: str) -> None:
    """The views work, and the commands over them; bodies, headers, arguments and results are closed."""
    url = roles.url("monitor")
    queues = celery_postgres(url, "queues", "--json")
    assert [(q["queue"], q["ready"]) for q in json.loads(queues.stdout)] == [("celery", 1)]
    jobs = celery_postgres(url, "jobs", "--json")
    assert [(j["id"], j["state"]) for j in json.loads(jobs.stdout)] == [(one_waits, "created")]
    assert celery_postgres(url, "check").returncode == 0
    assert as_role(url, "SELECT state, jobs FROM celery.job_stats") == [("created", 1)]
    assert as_role(url, "SELECT task, task_id FROM celery.message") == [("shop.charge", one_waits)]
    allowed = []
    for statement in MONITOR_MAY_NOT:
        try:
            as_role(url, statement)
        except psycopg.errors.InsufficientPrivilege:
            continue
        allowed.append(statement)
    assert allowed == []
    one = celery_postgres(url, "job", one_waits)
    assert one.returncode == 1
    assert "4929" not in one.stdout + one.stderr
    assert "GRANT SELECT" in one.stderr
    assert json.loads(celery_postgres(url, "dead", "list", "--json").stdout) == []
    cancelled = celery_postgres(url, "cancel", one_waits)
    assert cancelled.returncode == 1
    assert roles.admin.stored()["message"] == 1


def test_admin_does_everything(roles: Roles, producer: Celery, one_waits: str) -> None:
    """Looks, cancels, purges, and moves dead letters."""
    url = roles.url("admin")
    assert "4929 1234" in celery_postgres(url, "job", one_waits).stdout
    assert celery_postgres(url, "cancel", one_waits).returncode == 0
    for _ in range(3):
        producer.send_task("shop.charge")
    as_role(
        url,
        "WITH dead AS (DELETE FROM celery.ready WHERE message_id = (SELECT min(message_id) FROM celery.ready)"
        " RETURNING message_id) INSERT INTO celery.dead_letter (message_id, queue, reason, deliveries)"
        " SELECT message_id, 'celery', 'max_deliveries', 20 FROM dead",
    )
    with Connection(url) as connection:
        assert connection.default_channel.queue_purge("celery") == 2
        connection.default_channel.queue_delete("celery")
    assert as_role(url, "SELECT convert_from(body, 'UTF8') <> '' FROM celery.message") == [(True,)]
    as_role(url, "DELETE FROM celery.dead_letter", "DELETE FROM celery.message")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role(url, "DROP TABLE celery.message")


def test_producer_does_not_consume(roles: Roles, one_waits: str) -> None:
    """The error names what a worker would need."""
    with (
        Connection(roles.url("producer")) as connection,
        pytest.raises(ConfigurationError, match=r'GRANT SELECT, INSERT, UPDATE, DELETE ON "celery"\."\w+"'),
    ):
        connection.default_channel.basic_get("celery")
    assert roles.admin.stored()["ready"] == 1
