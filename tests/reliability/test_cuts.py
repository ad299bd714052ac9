"""The link is cut at every message of the protocol, of either side, while something is being done.

A statement that is cut off has not arrived, or it has and its answer has not. For each point the act is done
once, over a link that works again at once; what became of it is looked at when everybody is gone.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import states
from celery.app.task import Context
from kombu import Connection, Consumer, Exchange, Producer, Queue, pools

from celery_postgres.errors import DatabaseUnavailable
from tests.fixtures.waiting import eventually
from tests.results import sums

from .cutter import Cut, Cutter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery
    from kombu.message import Message

    Arm = Callable[[], None]
    Act = Callable[["Site", str, Arm], "Allowed"]

OPTIONS = "?grace=0.2&keep_rejected=true"
PATIENCE_S = 60.0
POLICY = {"max_retries": 5, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.2}

Allowed = frozenset[int]
"""How many messages there may be in the end, waiting or dead."""
GONE, ONCE, EITHER = Allowed({0}), Allowed({1}), Allowed({0, 1})


@dataclass
class Site:
    """A database, a way to it that can be cut, and somebody who sweeps."""

    url: str
    cutter: Cutter
    direct: Connection
    database: psycopg.Connection[Any]
    closing_too: bool
    """Whether the end of the connection is cut, too: there is a lot of it, and it takes long."""

    def done(self) -> None:
        """What the act is about has been done."""
        if not self.closing_too:
            self.cutter.rest()

    def connection(self) -> Connection:
        """Through the cutter."""
        return Connection(self.cutter.url + OPTIONS)

    def declare(self, name: str) -> None:
        self.direct.default_channel.queue_declare(name, durable=True, auto_delete=False)

    def publish(self, name: str) -> None:
        Producer(self.direct.default_channel).publish(name, routing_key=name)

    def held(self) -> set[str]:
        """The queues of which somebody holds messages."""
        rows = self.database.execute(
            "SELECT m.routing_key FROM celery.unacked u JOIN celery.message m ON m.id = u.message_id"
        )
        return {name for (name,) in rows}

    def stored(self) -> Counter[str]:
        """How many messages there are for each queue, waiting or dead."""
        rows = self.database.execute(
            """SELECT m.routing_key FROM celery.message m JOIN celery.ready r ON r.message_id = m.id
                UNION ALL SELECT queue FROM celery.dead_letter"""
        )
        return Counter(name for (name,) in rows)


@pytest.fixture(scope="module")
def site(module_database_url: str, pytestconfig: pytest.Config) -> Iterator[Site]:
    url = module_database_url
    with Cutter(url) as cutter, Connection(url + OPTIONS) as direct:
        direct.connect()
        with psycopg.connect(url, autocommit=True) as database:
            site = Site(url, cutter, direct, database, pytestconfig.getoption("--long"))
            site.declare("elsewhere")
            direct.default_channel.basic_consume("elsewhere", callback=lambda _: None)
            yield site


def at_every_cut(site: Site, what: str, act: Act) -> None:
    """Do it once undisturbed, to see where it can be cut, and then once for each cut."""
    site.declare(what)
    allowed = {what: act(site, what, lambda: site.cutter.arm(None))}
    cuts = dict(enumerate(site.cutter.every_cut()))
    assert len(cuts) > 5
    happened = 0
    for number, cut in cuts.items():
        name = f"{what}, {number}: {cut}"
        site.declare(name)
        allowed[name] = act(site, name, lambda cut=cut: site.cutter.arm(cut))  # type: ignore[misc]
        happened += site.cutter.happened.is_set()
    site.cutter.arm(None)
    eventually(lambda: not site.held(), what="nobody holds anything")
    stored = site.stored()
    wrong = {name: stored[name] for name in allowed if stored[name] not in allowed[name]}
    assert not wrong
    # How many messages an act takes varies a little; a cut may then come too late for it.
    assert happened > 0.7 * len(cuts)


def publish(site: Site, name: str, arm: Arm) -> Allowed:
    with site.connection() as connection:
        channel = connection.channel()
        message = channel.prepare_message(b"", properties={})
        arm()
        try:
            channel.basic_publish(message, exchange="", routing_key=name)
        except DatabaseUnavailable:
            return EITHER
        site.done()
        return ONCE


def publish_with_retry(site: Site, name: str, arm: Arm) -> Allowed:
    with site.connection() as connection:
        producer = Producer(connection.channel())
        arm()
        producer.publish(name, routing_key=name, retry=True, retry_policy=POLICY)
        site.done()
        return ONCE


def publish_and_declare(site: Site, name: str, arm: Arm) -> Allowed:
    """As Celery does it over each new connection."""
    with site.connection() as connection:
        producer = Producer(connection.channel())
        queue = Queue(name, Exchange(f"exchange of {name}"), routing_key=name)
        arm()
        producer.publish(
            name, exchange=queue.exchange, routing_key=name, declare=[queue], retry=True, retry_policy=POLICY
        )
        site.done()
        return ONCE


def claim(site: Site, name: str, arm: Arm) -> Allowed:
    """A message that was given to us is ours to settle; else it comes back."""
    with site.connection() as connection:
        got: list[Message] = []
        consumer = Consumer(connection.channel(), [Queue(name)], on_message=got.append, auto_declare=False)
        consumer.consume()
        arm()
        site.publish(name)
        if not drained(connection, lambda: bool(got)):
            return ONCE
        return GONE if settles(site, connection, got[0], "ack") else EITHER


def drained(connection: Connection, until: Callable[[], bool]) -> bool:
    """Turn the loop until that holds; False when the connection is lost before."""
    deadline = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < deadline, "nothing came"
        try:
            connection.drain_events(timeout=0.01)
        except TimeoutError:
            pass
        except connection.connection_errors:
            return False
    return True


def settles(site: Site, connection: Connection, message: Message, verb: str) -> bool:
    """Settle a message and see it done; False when the connection is lost before."""
    name = message.delivery_info["routing_key"]
    try:
        getattr(message, verb)()
    except connection.connection_errors:
        return False
    settled = drained(connection, lambda: name not in site.held())
    # Else it may have been given back, as the consumer was away for longer than its grace.
    settled = settled and connection.transport.intake.session.wait_home(PATIENCE_S)
    site.done()
    return settled


def settle(verb: str, kept: Allowed, lost: Allowed) -> Act:
    """`kept` if the connection bore it, `lost` if not."""

    def act(site: Site, name: str, arm: Arm) -> Allowed:
        with site.connection() as connection:
            channel = connection.channel()
            site.publish(name)
            message = channel.basic_get(name)
            arm()
            return kept if settles(site, connection, message, verb) else lost

    return act


@pytest.mark.parametrize(
    ("what", "act"),
    [
        ("publish", publish),
        ("publish with retry", publish_with_retry),
        ("publish and declare", publish_and_declare),
        ("claim", claim),
        ("ack", settle("ack", GONE, EITHER)),
        ("release", settle("requeue", ONCE, ONCE)),
        ("reject", settle("reject", ONCE, ONCE)),
    ],
)
def test_message(site: Site, what: str, act: Act) -> None:
    """Acknowledged to the publisher: it is there. Settled: it is settled, or comes back. Never twice."""
    at_every_cut(site, what, act)


@pytest.fixture
def new_app() -> Iterator[Callable[[str], Celery]]:
    made: list[Celery] = []

    def make(url: str) -> Celery:
        made.append(sums.make_app(url))
        return made[-1]

    yield make
    for app in made:
        app.backend.result_consumer.stop()
        app.backend._results.close()
        app.close()
        pools.reset()


def test_result(site: Site, new_app: Callable[[str], Celery]) -> None:
    """A result whose storing returned is there; where it raised, it is there or not."""
    near, far = new_app(site.url), new_app(site.cutter.url)

    def store(name: str, cut: Cut | None) -> bool:
        site.cutter.arm(cut)
        try:
            far.backend.store_result(name, name, states.SUCCESS)
        except far.backend.retryable_errors:
            return False
        return True

    far.backend.store_result("first", 1, states.SUCCESS)
    store("undisturbed", None)
    stored = {}
    for number, cut in enumerate(site.cutter.every_cut()):
        name = f"{number}: {cut}"
        stored[name] = store(name, cut)
        site.cutter.arm(None)
        found = near.backend.get_task_meta(name)
        if stored[name]:
            assert (found["status"], found["result"]) == (states.SUCCESS, name)
        else:
            store(name, None)
            assert near.backend.get_task_meta(name)["status"] == states.SUCCESS


def test_last_part_of_a_chord(site: Site, new_app: Callable[[str], Celery]) -> None:
    """The body is sent once, whatever is cut, when the part is run again after an error."""
    near, far = new_app(site.url), new_app(site.cutter.url)
    near.send_task("any", ignore_result=True)

    def part(group_id: str, index: int) -> Context:
        body = dict(far.signature("tests.results.sums.total", task_id=f"body of {group_id}"))
        return Context(
            id=f"{group_id}.{index}", group=group_id, group_index=index, chord=body, task="t.part",
            delivery_info={"routing_key": "celery"},
        )  # fmt: skip

    def run(group_id: str, cut: Cut | None) -> None:
        near.backend.set_chord_size(group_id, 2)
        near.backend.mark_as_done(f"{group_id}.0", 0, part(group_id, 0))
        site.cutter.arm(cut)
        try:
            far.backend.mark_as_done(f"{group_id}.1", 1, part(group_id, 1))
        except far.backend.retryable_errors:
            site.cutter.arm(None)
            far.backend.mark_as_done(f"{group_id}.1", 1, part(group_id, 1))

    run("first", None)
    run("undisturbed", None)
    cuts = site.cutter.every_cut()
    for number, cut in enumerate(cuts):
        run(f"g{number}", cut)
    site.cutter.arm(None)
    with psycopg.connect(site.url) as connection:
        bodies = dict(
            connection.execute(
                "SELECT substr(task_id, 9), count(*) FROM celery.message"
                " WHERE task_id LIKE 'body of %' GROUP BY 1"
            ).fetchall()
        )
    assert bodies == dict.fromkeys(["first", "undisturbed", *(f"g{n}" for n in range(len(cuts)))], 1)
