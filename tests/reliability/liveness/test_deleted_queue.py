"""A queue that is deleted while it is consumed: AMQP cancels its consumers, and Celery's begin anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu import Connection, Queue

from tests.fixtures.waiting import PATIENCE_S, eventually

if TYPE_CHECKING:
    from .conftest import Watched

#: By it a worker beats, and counts its subscriptions, each quarter of a second.
OFTEN = {"broker_transport_options": {"stall_timeout": 1}}


def test_worker_declares_it_again(site: Watched) -> None:
    """And executes what is sent from then on; what it consumes otherwise is not touched."""
    worker = site.worker("-Q", "celery,left", pool="threads", concurrency=1, **OFTEN)
    with Connection(site.broker.url) as connection:
        connection.default_channel.queue_delete("celery", if_unused=False)
        worker.wait_for_line("queue 'celery' was deleted while it was consumed: connecting anew")
        eventually(lambda: site.query("SELECT name FROM celery.queue WHERE name = 'celery'"))
        ids = [site.send("record", queue=name) for name in ("celery", "left")]
        site.record.wait_for(ids)


def test_consumer_hears_of_it(database_url: str) -> None:
    """Also where somebody has declared another queue of that name by then."""
    url = f"{database_url}?stall_timeout=1&poll_interval=0.1&max_poll_interval=0.1"
    with Connection(url) as connection, Connection(database_url) as other:
        channel, queue = connection.channel(), Queue("q")
        queue(channel).declare()
        channel.basic_consume("q", callback=lambda _: None)
        other.default_channel.queue_delete("q")
        queue(other.default_channel).declare()
        lost: list[Exception] = []

        def hears() -> bool:
            try:
                connection.drain_events(timeout=0.1)
            except TimeoutError:
                pass
            except connection.connection_errors as exc:
                lost.append(exc)
            return bool(lost)

        eventually(hears, PATIENCE_S, "the loss")
        assert "queue 'q' was deleted while it was consumed" in str(lost[0])


def test_consumer_that_is_cancelled_is_not_missed(database_url: str) -> None:
    """Fewer subscriptions than a moment ago are no deleted queue, nor is one that its own channel deletes."""
    with Connection(f"{database_url}?stall_timeout=1") as connection:
        channel = connection.channel()
        for name in ("q", "kept"):
            Queue(name)(channel).declare()
        channel.basic_consume("kept", callback=lambda _: None)
        for _ in range(20):
            tag = channel.basic_consume("q", callback=lambda _: None)
            channel.basic_cancel(tag)
        channel.queue_delete("q")
        beats = connection.transport._maintenance
        first = beats._next_beat
        eventually(lambda: beats._next_beat > first + 1)
        assert connection.connected
