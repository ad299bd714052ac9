"""Random histories of one queue, through kombu's own words, against a reference model kept beside it.

One thread does everything, so that the model can say which message comes next. What a session that was
killed held is the exception: it may come back at any later moment, and has to.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from kombu import Connection, Consumer, Queue

import celery_postgres  # noqa: F401  registers the schemes
from celery_postgres.sql import messages as sql
from tests.concurrency.hand import Hand
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kombu.message import Message

CLIENTS = 2
QUICK = settings(max_examples=12, stateful_step_count=40, derandomize=True, phases=[Phase.generate])
LONG = settings(max_examples=200, stateful_step_count=60)

SETTLE = ("ack", "reject", "requeue")

_names = (f"queue{number}" for number in itertools.count(1))
_client = st.integers(0, CLIENTS - 1)


@dataclass(order=True)
class Sent:
    """A message that was published; the order is that in which a queue gives them."""

    rank: tuple[int, int]
    uid: str = field(compare=False)


class Client:
    """One connection, and what it holds."""

    def __init__(self, url: str) -> None:
        self.connection = Connection(url)
        self.channel = self.connection.channel()
        self.held: list[tuple[Sent, Message]] = []

    def kill_session(self, observer: psycopg.Connection[Any]) -> bool:
        """The one that claims, if there is one already."""
        transport = self.connection.transport
        if not transport.usable:
            return False
        pid = transport.intake.session.backend_pid
        observer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        return True

    def close(self) -> None:
        self.connection.close()


class Histories(RuleBasedStateMachine):
    """The reference: `waiting` in order, `later`, what each client holds, and what is on its way back."""

    url = ""
    observer: psycopg.Connection[Any]
    hand: Hand

    def __init__(self) -> None:
        super().__init__()
        self.queue = next(_names)
        self.clients = [Client(self.url) for _ in range(CLIENTS)]
        self.clients[0].channel.queue_declare(
            self.queue, durable=True, auto_delete=False, arguments={"x-max-priority": 3}
        )
        self.numbers = itertools.count(1)
        self.waiting: list[Sent] = []
        self.later: list[Sent] = []
        self.returning: dict[str, Sent] = {}
        self.killed = False

    # -- publishing ----------------------------------------------------------------------------------

    @rule(by=_client, priority=st.integers(0, 3), eta=st.booleans(), count=st.integers(1, 3))
    def publish(self, by: int, priority: int, eta: bool, count: int) -> None:
        channel = self.clients[by].channel
        for _ in range(count):
            number = next(self.numbers)
            sent = Sent((-priority, number), f"m{number}")
            headers = {"task": "any", "id": sent.uid}
            if eta:
                headers["eta"] = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
            message = channel.prepare_message(
                sent.uid, priority, "text/plain", "utf-8", headers, {"expiration": "3600000"}
            )
            channel.basic_publish(message, exchange="", routing_key=self.queue)
            (self.later if eta else self.waiting).append(sent)

    @precondition(lambda self: self.later)
    @rule()
    def time_comes(self) -> None:
        """What is held for later is due, and somebody sweeps."""
        self.hand.sql("UPDATE celery.delayed SET due_at = now()")
        self.hand.run(sql.PROMOTE, 1000)
        self.waiting += self.later
        self.later.clear()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def time_is_over(self, data: st.DataObject) -> None:
        """One of those that wait has waited too long."""
        sent = data.draw(st.sampled_from(self.waiting))
        self.hand.sql("UPDATE celery.message SET expires_at = now() WHERE body = $1", sent.uid.encode())
        self.waiting.remove(sent)

    @rule(by=_client)
    def purge(self, by: int) -> None:
        count = self.clients[by].channel.queue_purge(self.queue)
        sure = len(self.waiting) + len(self.later)
        # What has expired may have been swept or not, so it counts or not.
        assert count >= sure
        self.waiting.clear()
        self.later.clear()
        self._find_out_what_returned()

    # -- consuming -----------------------------------------------------------------------------------

    def _took(self, client: Client, message: Message) -> None:
        """It must have been the next one, or one that came back."""
        uid = message.body.decode()
        sent = self.returning.pop(uid, None)
        if sent is not None:
            assert message.delivery_info["redelivered"], f"{sent} was given to somebody before"
        else:
            assert self.waiting, f"{uid} came although nothing waits"
            sent = min(self.waiting)
            assert uid == sent.uid, f"{uid} came before {sent.uid}"
            self.waiting.remove(sent)
        client.held.append((sent, message))

    @rule(by=_client)
    def get(self, by: int) -> None:
        client = self.clients[by]
        message = client.channel.basic_get(self.queue)
        if message is None:
            assert not self.waiting, f"{min(self.waiting)} was not given"
        else:
            self._took(client, message)

    @rule(by=_client, count=st.integers(1, 4))
    def consume(self, by: int, count: int) -> None:
        """Consume for a while; what was claimed and not delivered returns with the cancellation."""
        client = self.clients[by]
        wanted = min(count, len(self.waiting))
        before = len(client.held)
        consumer = Consumer(
            client.channel,
            [Queue(self.queue)],
            on_message=lambda message: self._took(client, message),
            auto_declare=False,
        )
        client.channel.basic_qos(0, before + count, False)
        with consumer:
            eventually(lambda: _drained(client.connection) and len(client.held) - before >= wanted)

    @precondition(lambda self: any(client.held for client in self.clients))
    @rule(data=st.data(), verb=st.sampled_from(SETTLE))
    def settle(self, data: st.DataObject, verb: str) -> None:
        client = data.draw(st.sampled_from([c for c in self.clients if c.held]))
        place = data.draw(st.integers(0, len(client.held) - 1))
        sent, message = client.held.pop(place)
        getattr(message, verb)()
        if verb == "requeue":
            self.waiting.append(sent)

    @precondition(lambda self: any(client.held for client in self.clients))
    @rule(by=_client)
    def recover(self, by: int) -> None:
        """Everything that a client holds returns at once."""
        client = self.clients[by]
        client.channel.basic_recover(requeue=True)
        self._gave_back(client)

    def _gave_back(self, client: Client) -> None:
        self.waiting += [sent for sent, _ in client.held]
        client.held.clear()

    @rule(by=_client)
    def close(self, by: int) -> None:
        self.clients[by].close()
        self._gave_back(self.clients[by])
        self.clients[by] = Client(self.url)

    # -- a session that is lost ----------------------------------------------------------------------

    @precondition(lambda self: not self.killed)
    @rule(by=_client, often=st.integers(0, 2))
    def kill(self, by: int, often: int) -> None:
        """What the client has settled must be settled, and the rest comes back, sooner or later."""
        client = self.clients[by]
        eventually(lambda: self._in_order(client))
        if often or not client.kill_session(self.observer):
            return
        self.killed = True
        self.returning.update((sent.uid, sent) for sent, _ in client.held)
        client.held.clear()
        try:
            client.close()
        except client.connection.connection_errors:
            pass
        self.clients[by] = Client(self.url)

    def _in_order(self, client: Client) -> bool:
        """Whether the server has all that the client settled."""
        transport = client.connection.transport
        if not transport.usable:
            return True
        transport.intake.flush()
        return not transport.intake.unsent

    def _find_out_what_returned(self) -> None:
        """Of what is on its way back the purge took some."""
        there = {body.decode() for (body,) in self.hand.sql("SELECT body FROM celery.message")}
        self.returning = {uid: sent for uid, sent in self.returning.items() if uid in there}

    # -- the end -------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everything that the model knows of comes once, and no row stays behind."""
        try:
            self._empty()
        finally:
            self.clients[0].channel.queue_delete(self.queue)
            for client in self.clients:
                client.close()

    def _empty(self) -> None:
        if self.later:
            self.time_comes()
        for client in self.clients:
            client.channel.basic_recover(requeue=True)
            self._gave_back(client)
        client = self.clients[0]

        def everything_came() -> bool:
            while (message := client.channel.basic_get(self.queue)) is not None:
                self._took(client, message)
                message.ack()
            return not self.waiting and not self.returning

        eventually(everything_came, 60, f"all of {self.waiting} and {self.returning}")
        eventually(lambda: self._in_order(client))
        for table in ("ready", "delayed", "unacked", "message"):
            eventually(lambda table=table: self.hand.count(table) == 0, what=table)  # type: ignore[misc]


def _drained(connection: Connection) -> bool:
    try:
        connection.drain_events(timeout=0.05)
    except TimeoutError:
        pass
    return True


@pytest.fixture
def histories(database_url: str) -> Iterator[type[Histories]]:
    """The machine over a database of its own, in which somebody else sweeps."""
    url = f"{database_url}?grace=0.1"
    with (
        Connection(url) as sweeper,
        Hand(_made(url, database_url)) as hand,
        psycopg.connect(database_url, autocommit=True) as observer,
    ):
        channel = sweeper.channel()
        channel.queue_declare("elsewhere", durable=True, auto_delete=False)
        channel.basic_consume("elsewhere", callback=lambda _: None)
        yield type("Over", (Histories,), {"url": url, "hand": hand, "observer": observer})


def _made(url: str, database_url: str) -> str:
    """After the first connection there is a schema."""
    with Connection(url) as connection:
        connection.connect()
    return database_url


# A thread of ours that draws a pause in the middle of a strategy is taken for the strategy.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@pytest.mark.parametrize("size", [QUICK, pytest.param(LONG, marks=pytest.mark.long)], ids=["quick", "long"])
def test_histories(histories: type[Histories], size: settings) -> None:
    """Whatever is done: each message is where the reference says it is, and comes in its turn."""
    run_state_machine_as_test(
        histories,
        settings=settings(
            size, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True
        ),
    )
