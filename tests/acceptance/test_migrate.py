"""Moving tasks between brokers, and between queues of one: nothing is lost and nothing is doubled."""

from __future__ import annotations

import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from celery.contrib import migrate as celery_migrate
from kombu import Consumer, Queue

from tests.fixtures.record import Record
from tests.fixtures.worker import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.broker import Broker

COUNT = 200


@pytest.fixture(params=["redis_broker", "amqp_broker"])
def other(request: pytest.FixtureRequest) -> Broker:
    """The broker that the application comes from, or goes back to."""
    broker: Broker = request.getfixturevalue(request.param)
    return broker


@pytest.fixture
def site_at(tmp_path) -> Iterator[Any]:
    """Makes a site over any broker."""
    sites: list[Site] = []

    def make(broker: Broker) -> Site:
        sites.append(Site(broker, Record(tmp_path / f"record{len(sites)}"), {}))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


def migrate(source: Site, destination: Site, *options: str) -> None:
    """Run `celery migrate` between the brokers of the two sites."""
    urls = (source.broker.url, destination.broker.url)
    source.run("migrate", "-t", "2", *options, *urls, timeout_s=120)


def ids_in(site: Site, queue: str = "celery", expected: int = 0) -> Counter[str]:
    """Consume a queue until `expected` messages have come, and then for a second whatever is too much.

    What a process left unsettled when it ended comes back within ten seconds.
    """
    found: Counter[str] = Counter()

    def on_message(message: Any) -> None:
        found[message.headers["id"]] += 1
        message.ack()

    with site.broker.connection() as connection:
        channel = connection.channel()
        deadline = time.monotonic() + 10
        with Consumer(channel, [Queue(queue, no_declare=True)], on_message=on_message):
            while (left := deadline - time.monotonic()) > 0:
                try:
                    connection.drain_events(timeout=min(left, 1))
                except socket.timeout:  # noqa: UP041 - kombu's contract has this name
                    if found.total() >= expected:
                        break
    return found


@pytest.mark.parametrize("direction", ["to", "from"])
def test_move_to_another_broker(site_at, fresh_broker, other, direction):
    """`celery migrate --ack-messages`: every task is at the destination once, and none at the source."""
    ours, theirs = site_at(fresh_broker), site_at(other)
    source, destination = (theirs, ours) if direction == "to" else (ours, theirs)
    ids = [source.send("record", number, priority=number % 10) for number in range(COUNT)]
    migrate(source, destination, "-a")
    assert ids_in(destination, expected=COUNT) == Counter(ids)
    assert ids_in(source) == Counter()


@pytest.mark.parametrize("direction", ["to", "from"])
def test_copy_to_another_broker(site_at, fresh_broker, other, direction):
    """Without it, every task is at both afterwards, once."""
    ours, theirs = site_at(fresh_broker), site_at(other)
    source, destination = (theirs, ours) if direction == "to" else (ours, theirs)
    ids = [source.send("record", number) for number in range(COUNT)]
    migrate(source, destination)
    assert ids_in(destination, expected=COUNT) == Counter(ids)
    assert ids_in(source, expected=COUNT) == Counter(ids)


def test_migrated_tasks_run(site_at, fresh_broker, other):
    """A worker executes what came from another broker, with its arguments, once."""
    ours, theirs = site_at(fresh_broker), site_at(other)
    ids = [theirs.send("echo", {"number": number, "text": "ü\x00"}) for number in range(20)]
    later = theirs.send("record", "eta", countdown=2)
    migrate(theirs, ours, "-a")
    ours.worker("-Q", "celery", pool="threads", concurrency=4)
    ours.record.wait_for([*ids, later])
    assert ours.record.counts() == Counter([*ids, later])


def route(queue: Queue) -> tuple[str, str]:
    """Where to publish for this queue. RabbitMQ's client cannot declare while it delivers."""
    return queue.exchange.name, queue.routing_key


def test_move_between_queues(site):
    """`celery.contrib.migrate.move`: chosen tasks are in the other queue once, the rest stays."""
    site.declare()
    queues = site.client.amqp.queues
    ids = [site.send("record", number) for number in range(COUNT)]
    chosen = set(ids[::3])
    celery_migrate.move(
        lambda _, message: message.headers["id"] in chosen and route(queues["right"]),
        app=site.client,
        source=["celery"],
        timeout=5,
        limit=len(chosen),
    )
    assert ids_in(site, "right", len(chosen)) == Counter(chosen)
    assert ids_in(site, "celery", COUNT - len(chosen)) == Counter(set(ids) - chosen)


def test_moved_twice_is_moved(site):
    """A task moved away and back is there once: the message keeps its properties and is a new one."""
    site.declare()
    queues = site.client.amqp.queues
    task_id = site.send("record", "there and back")
    for source, target in (("celery", "right"), ("right", "celery"), ("celery", "right")):
        destination = route(queues[target])
        celery_migrate.move(
            lambda *_, to=destination: to, app=site.client, source=[source], timeout=10, limit=1
        )
    assert ids_in(site, "celery") == Counter()
    assert ids_in(site, "right", 1) == Counter([task_id])


def test_copied_within_a_queue(site):
    """Published again to its own queue without being settled, a task is there twice."""
    task_id = site.send("record")
    with site.client.connection_for_write() as connection:
        queue = site.client.amqp.queues["celery"](connection.default_channel)
        message = queue.get()
        celery_migrate.republish(site.client.amqp.Producer(connection), message)
        message.requeue()
    assert ids_in(site, expected=2) == Counter([task_id, task_id])
