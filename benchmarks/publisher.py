"""A client process that sends tasks and waits for no result: `python -m benchmarks.publisher ORDER`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import client

if TYPE_CHECKING:
    from collections.abc import Iterator

# Enough for connection, declarations and prepared statements to be behind us.
WARM_UP = 5


DELAY = "delay"
BATCH = "batch"
GROUP = "group"
GROUP_IN_BATCH = "group in batch"
WAYS = (DELAY, BATCH, GROUP, GROUP_IN_BATCH)


@dataclass(frozen=True)
class Order:
    """What to send, and by which of `WAYS`. `limit_s` ends it early.

    `interval_ms` 0 sends as fast as possible; only `delay()` keeps a pace. `size` is that of a batch and of
    a group. A transport without batches publishes each message by itself (kombu's doing).
    """

    count: int
    warm_up: int = WARM_UP
    interval_ms: float = 0.0
    payload_bytes: int = 0
    limit_s: float = 60.0
    way: str = DELAY
    size: int = 1000


@dataclass(frozen=True)
class Outcome:
    """What was sent, from before the first `delay()` to after the last (monotonic ns)."""

    sent: int
    first_ns: int
    last_ns: int
    cpu_s: float


def send(order: Order) -> Outcome:
    """Send as ordered."""
    clock = time.monotonic_ns
    cpu_s = time.process_time()
    first_ns = now = clock()
    deadline = first_ns + int(order.limit_s * 1e9)
    sent = 0
    for number in _singly(order, first_ns) if order.way == DELAY else _in_portions(order):
        sent += number
        now = clock()
        if now >= deadline:
            break
    return Outcome(sent, first_ns, now, time.process_time() - cpu_s)


def _singly(order: Order, first_ns: int) -> Iterator[int]:
    """Call `delay()`, and say after each that one more was sent."""
    from benchmarks.application import note

    delay, clock, payload = note.delay, time.monotonic_ns, "x" * order.payload_bytes
    pace_ns = int(order.interval_ms * 1_000_000)
    for number in range(order.count):
        if pace_ns:
            time.sleep(max(0, first_ns + number * pace_ns - clock()) / 1e9)
        delay(number, clock(), payload)
        yield 1


def _in_portions(order: Order) -> Iterator[int]:
    """Send `size` at once, and say after each how many that were; a batch is stored when it is left."""
    from celery import group

    from benchmarks.application import app, note

    clock, payload = time.monotonic_ns, "x" * order.payload_bytes
    for begin in range(0, order.count, order.size):
        numbers = range(begin, min(begin + order.size, order.count))
        if order.way == GROUP:
            group([note.s(number, clock(), payload) for number in numbers]).apply_async()
        else:
            with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=order.size):
                if order.way == GROUP_IN_BATCH:
                    parts = group([note.s(number, clock(), payload) for number in numbers])
                    parts.apply_async(producer=producer)
                else:
                    for number in numbers:
                        note.apply_async((number, clock(), payload), producer=producer)
        yield len(numbers)


def main() -> None:
    """Follow the order of the command line."""
    from benchmarks.application import note

    order = Order(**client.ordered())

    def warm_up() -> None:
        for number in range(order.warm_up):
            note.delay(-1 - number, time.monotonic_ns(), "x" * order.payload_bytes)

    client.follow(warm_up, lambda: send(order))


if __name__ == "__main__":
    main()
