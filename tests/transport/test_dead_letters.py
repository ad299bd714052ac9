"""Where messages go that nobody will execute."""

from __future__ import annotations

import time

import pytest
from kombu import Exchange

from tests.fixtures.waiting import eventually

from .inbox import Inbox, bodies_of, size

pytestmark = pytest.mark.differs(redis="there are no dead-letter exchanges")


def dead_letters_to(exchange: str, routing_key: str | None = None) -> dict[str, str]:
    """The queue arguments that send dead letters there."""
    arguments = {"x-dead-letter-exchange": exchange}
    if routing_key is not None:
        arguments["x-dead-letter-routing-key"] = routing_key
    return {"queue_arguments": arguments}


@pytest.fixture
def graveyard(new_queue):
    """A queue for dead letters, reached through the default exchange."""
    return new_queue()


def one(queue):
    """The next message of the queue, taken out, waiting for it."""
    with Inbox(queue.channel.connection.client.channel(), queue) as inbox:
        (message,) = inbox.take(1)
        message.ack()
        return message


def test_rejected_message_goes_to_the_exchange(new_queue, publish, graveyard):
    """The copy has the body, the headers, and a history in `x-death`."""
    queue = new_queue(**dead_letters_to("", graveyard.name))
    publish(queue, {"k": 1}, headers={"mine": "kept"}, correlation_id="c")
    queue.get().reject()
    dead = one(graveyard)
    assert dead.payload == {"k": 1}
    assert dead.headers["mine"] == "kept"
    assert dead.properties["correlation_id"] == "c"
    assert dead.delivery_info["routing_key"] == graveyard.name
    (death,) = dead.headers["x-death"]
    assert (death["reason"], death["queue"], death["exchange"], death["count"]) == (
        "rejected",
        queue.name,
        "",
        1,
    )
    assert death["routing-keys"] == [queue.name]
    assert death["time"]
    assert dead.headers["x-first-death-reason"] == "rejected"
    assert dead.headers["x-first-death-queue"] == queue.name
    assert dead.headers["x-first-death-exchange"] == ""


def test_requeued_message_does_not(new_queue, publish, graveyard):
    """Only a reject without requeue is a death."""
    queue = new_queue(**dead_letters_to("", graveyard.name))
    publish(queue, 1)
    queue.get().requeue()
    assert bodies_of(queue, 1) == [1]
    assert size(graveyard) == 0


def test_keeps_its_routing_key_without_another(new_queue, publish, new_name):
    """Without `x-dead-letter-routing-key` the message's own key routes it."""
    exchange = Exchange(new_name(), type="direct")
    queue = new_queue(**dead_letters_to(exchange.name))
    graveyard = new_queue(exchange=exchange, routing_key=queue.name)
    publish(queue, "same key")
    queue.get().reject()
    assert one(graveyard).delivery_info["routing_key"] == queue.name


def test_fans_out_to_every_queue_of_the_exchange(new_queue, publish, new_name):
    """The exchange routes a dead letter like any message."""
    exchange = Exchange(new_name(), type="fanout")
    graveyards = [new_queue(exchange=exchange) for _ in range(2)]
    queue = new_queue(**dead_letters_to(exchange.name))
    publish(queue, "twice")
    queue.get().reject()
    assert [one(graveyard).payload for graveyard in graveyards] == ["twice", "twice"]


def test_expired_message_goes_to_the_exchange(new_queue, publish, graveyard):
    """Without its expiration, so that it does not expire there again."""
    queue = new_queue(**dead_letters_to("", graveyard.name))
    publish(queue, "late", expiration=0.2)
    dead = one(graveyard)
    assert dead.payload == "late"
    (death,) = dead.headers["x-death"]
    assert (death["reason"], death["queue"]) == ("expired", queue.name)
    assert death["original-expiration"] == "200"
    assert "expiration" not in dead.properties


def test_dropped_message_goes_to_the_exchange(new_queue, publish, graveyard):
    """What a full queue drops at its head is a dead letter too."""
    arguments = dead_letters_to("", graveyard.name)["queue_arguments"]
    queue = new_queue(max_length=1, queue_arguments=arguments)
    publish(queue, "old", "new")
    dead = one(graveyard)
    assert dead.payload == "old"
    assert dead.headers["x-death"][0]["reason"] == "maxlen"
    assert bodies_of(queue, 1) == ["new"]


def test_missing_exchange_loses_the_message_only(new_queue, publish, new_name):
    """An exchange that does not exist takes nothing, and the reject succeeds."""
    queue = new_queue(**dead_letters_to(new_name()))
    publish(queue, 1, 2)
    queue.get().reject()
    assert bodies_of(queue, 1) == [2]


def test_delayed_retry_by_two_queues(new_queue, publish, channel, new_name):
    """Rejected messages rest in a second queue and come back; `x-death` counts the rounds."""
    work, rest = new_name(), new_name()
    queue = new_queue(work, **dead_letters_to("", rest))
    new_queue(rest, message_ttl=0.3, **dead_letters_to("", work))
    publish(queue, "again")
    with Inbox(channel, queue, prefetch_count=1) as inbox:
        began = time.monotonic()
        for rounds in range(3):
            (message,) = inbox.take(1)
            deaths = {death["queue"]: death["count"] for death in message.headers.get("x-death", [])}
            assert deaths == ({work: rounds, rest: rounds} if rounds else {})
            if rounds < 2:
                message.reject()
        assert time.monotonic() - began > 0.6
        message.ack()
    eventually(lambda: size(queue) == 0)


def test_latest_death_comes_first(new_queue, publish, new_name):
    """`x-death` is ordered from the latest to the earliest."""
    last = new_queue()
    middle = new_queue(message_ttl=0.2, **dead_letters_to("", last.name))
    first = new_queue(**dead_letters_to("", middle.name))
    publish(first, 1)
    first.get().reject()
    dead = one(last)
    assert [death["queue"] for death in dead.headers["x-death"]] == [middle.name, first.name]
    assert dead.headers["x-first-death-queue"] == first.name
