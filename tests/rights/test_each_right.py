"""Each right that a purpose has is needed, and the error of who lacks it names the GRANT."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from celery import chord
from celery.app.task import Context
from kombu import Connection, Consumer, Exchange, Queue

from celery_postgres.errors import ConfigurationError
from celery_postgres.purposes import PURPOSES, SEQUENCES, TABLES
from celery_postgres.rights import script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery
    from kombu import Message

    from .conftest import Roles


#: A worker touches these where it keeps results.
RESULTS = ("result", "group_result", "chord", "chord_part")


def publish_everywhere(app: Celery) -> None:
    """Declare, publish through each kind of exchange, hold for later, broadcast, and use results."""
    with app.connection_for_write() as connection, connection.channel() as channel:
        for kind in ("direct", "topic", "fanout"):
            queue = Queue(f"q.{kind}", Exchange(f"x.{kind}", type=kind), routing_key="k")(channel)
            queue.declare()
            connection.Producer(channel).publish(kind, exchange=queue.exchange, routing_key="k")
        connection.Producer(channel).publish("log", exchange="x.log")
    with app.connection_for_write(transport_options={"publish_dedup": True}) as connection:
        connection.Producer().publish("once", routing_key="q.direct")
    app.send_task("shop.charge", countdown=3600)
    app.control.broadcast("ping")
    result = app.AsyncResult("charge")
    assert result.get(timeout=10) == 1
    result.forget()
    group = app.GroupResult("group", [app.AsyncResult("part")])
    group.save()
    assert app.GroupResult.restore("group").id == "group"
    group.delete()
    header = [app.signature("shop.charge", immutable=True)]
    chord(header, app.signature("shop.total", immutable=True), app=app).apply_async()
    app.backend.set_chord_size("returned", 1)


def prepare(roles: Roles, app: Celery) -> None:
    """A result to wait for, and a chord all of whose parts returned before its size was told."""
    body = app.backend._encoded(app.signature("shop.total", immutable=True)).packed()
    roles.admin.run(
        "DELETE FROM celery.result",
        "DELETE FROM celery.chord",
        "INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta) VALUES ('charge',"
        """ 'SUCCESS', 'application/json', 'utf-8', '{"status": "SUCCESS", "result": 1, "task_id": "charge"}')
        """,
        f"INSERT INTO celery.chord (group_id, returned, callback) VALUES ('returned', 1, '\\x{body.hex()}')",
        "INSERT INTO celery.chord_part (group_id, position, task_id, state, content_type, content_encoding,"
        " meta) VALUES ('returned', 0, 'part', 'SUCCESS', 'application/json', 'utf-8', '1')"
        " ON CONFLICT DO NOTHING",
    )


@dataclass(frozen=True)
class Right:
    """One privilege on one object."""

    name: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.name}"

    def revoke(self, roles: Roles, purpose: str) -> None:
        kind = "SEQUENCE " if self.name in SEQUENCES else ""
        columns = PURPOSES[purpose].needs[self.name].get(self.verb)
        listed = f" ({', '.join(columns)})" if columns else ""
        role = roles.names[purpose]
        roles.admin.run(f'REVOKE {self.verb}{listed} ON {kind}celery.{self.name} FROM "{role}"')


def rights(purpose: str) -> list[Right]:
    needs = PURPOSES[purpose].needs
    return [Right(name, verb) for name, privileges in needs.items() for verb in privileges]


@pytest.fixture
def producer(roles: Roles, new_app: Callable[..., Celery]) -> Iterator[Celery]:
    url = roles.url("producer")
    app = new_app(broker_url=url, result_backend=url)
    yield app
    app.backend.result_consumer.stop()
    app.backend._results.close()


def test_each_right_of_a_producer(roles: Roles, producer: Celery) -> None:
    """Without any one of them something fails, and what the error calls enough is the cure."""
    with Connection(roles.url("consumer")) as connection:
        Queue("log", Exchange("x.log", type="fanout"), exclusive=True, durable=False)(
            connection.default_channel
        ).declare()
        wrong = unneeded_or_untold(roles, producer)
    assert wrong == []


def unneeded_or_untold(roles: Roles, producer: Celery) -> list[str]:
    prepare(roles, producer)
    publish_everywhere(producer)
    wrong = []
    for right in rights("producer"):
        right.revoke(roles, "producer")
        prepare(roles, producer)
        told = complaints(lambda: publish_everywhere(producer))
        enough = [statement for text in told for statement in cures(text)]
        if not any(f'"{right.name}"' in statement and right.verb in statement for statement in enough):
            wrong.append(f"{right}: {told or 'is not needed'}")
        else:
            roles.admin.run(*enough)
            prepare(roles, producer)
            assert complaints(lambda: publish_everywhere(producer)) == []
        roles.admin.run(script("celery", roles.names))
    return wrong


def complaints(work: Callable[[], object]) -> list[str]:
    """The error with which the work ends, and the one behind it: a chord is ended by what kept it."""
    try:
        work()
    except ConfigurationError as error:
        behind = error.__context__
        return [str(found) for found in (behind, error) if isinstance(found, ConfigurationError)]
    return []


def cures(text: str) -> list[str]:
    """What a message calls enough for a publisher, else what it tells to run."""
    return re.findall(r"this is enough: (GRANT .*?;)", text) or re.findall(r"run: (GRANT .*?;)", text)


def work(url: str) -> None:
    """Claim, give back, reject, hold, and use the broadcast log, as a consumer with acknowledgements does."""
    got: list[Message] = []
    options = {"keep_rejected": True, "publish_dedup": True}
    with Connection(url, transport_options=options) as connection:
        channel = connection.channel()
        producer = connection.Producer(channel)
        exchange = Exchange("x.work", type="topic")
        queue = Queue("q.work", exchange, routing_key="k")(channel)
        queue.declare()
        heard = Exchange("x.work.log", type="fanout")
        log = Queue("q.log", heard, exclusive=True, durable=False)(channel)
        log.declare()
        eta = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
        producer.publish("later", exchange="x.work", routing_key="k", headers={"eta": eta})
        for number in range(2):
            producer.publish(number, exchange="x.work", routing_key="k")
        producer.publish("log", exchange="x.work.log")
        with Consumer(channel, [queue], callbacks=[lambda _, message: got.append(message)]):
            while len(got) < 2:
                connection.drain_events(timeout=10)
            got[0].ack()
            got[1].reject()
        assert log.get(no_ack=True).payload == "log"
        channel.queue_purge("q.work")


def test_each_table_of_a_consumer(roles: Roles) -> None:
    """Without a table something fails, and the error names it."""
    url = roles.url("consumer")
    work(url)
    untold = []
    for name in (*TABLES, *SEQUENCES):
        if name in RESULTS:
            continue
        Right(name, "ALL").revoke(roles, "consumer")
        told = complaints(lambda: work(url))
        if not any(f'"{name}" TO' in text for text in told):
            untold.append(f"{name}: {told}")
        else:
            roles.admin.run(*re.findall(r"run: (GRANT .*?;)", " ".join(told)))
            assert complaints(lambda: work(url)) == []
        roles.admin.run(script("celery", roles.names))
    assert untold == []


def test_each_table_of_results(roles: Roles, new_app: Callable[..., Celery]) -> None:
    """The same for a worker that stores what its tasks returned."""
    url = roles.url("consumer")
    app = new_app(broker_url=url, result_backend=url)
    untold = []
    for name in RESULTS:
        Right(name, "ALL").revoke(roles, "consumer")
        told = complaints(lambda: store(app))
        if not any(f'"{name}" TO' in text for text in told):
            untold.append(f"{name}: {told}")
        roles.admin.run(script("celery", roles.names))
    assert untold == []
    app.backend._results.close()


def store(app: Celery) -> None:
    """As a worker does behind a task, and behind a part of a chord."""
    app.backend.store_result("one", 1, "SUCCESS")
    app.GroupResult("group", [app.AsyncResult("one")]).save()
    body = app.signature("shop.total", immutable=True)
    request = Context(id="part", group="parts", group_index=0, chord=body)
    app.backend.on_chord_part_return(request, "SUCCESS", 1)
