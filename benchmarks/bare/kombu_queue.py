"""A bare kombu consumer over this project's transport."""

from __future__ import annotations

import time
from typing import Any

from kombu import Connection, Consumer, Exchange, Queue

import celery_postgres  # noqa: F401  # registers the URL scheme
from benchmarks.bare.order import Order, follow
from benchmarks.records import Recorder


def fill(order: Order) -> None:
    """Publish in batches: what is measured comes later."""
    queue = _queue(order)
    with Connection(order.url) as connection, connection.Producer() as producer:
        producer.maybe_declare(queue)
        with producer.batch():
            for number in range(order.count):
                producer.publish({"number": number}, exchange=queue.exchange, routing_key=order.queue)


def consume(order: Order) -> None:
    """Note each message and acknowledge it."""
    recorder = Recorder(order.record_path)

    def on_message(body: dict[str, int], message: Any) -> None:
        recorder.started(body["number"], 0, time.monotonic_ns())
        message.ack()

    with Connection(order.url) as connection:
        consumer = Consumer(
            connection.channel(), [_queue(order)], callbacks=[on_message], accept=["json"], **order.settings
        )
        with consumer:
            while True:
                connection.drain_events()


def _queue(order: Order) -> Queue:
    return Queue(order.queue, Exchange(order.queue), routing_key=order.queue)


if __name__ == "__main__":
    follow(fill, consume)
