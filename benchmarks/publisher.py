"""A client process that calls `delay()` and waits for nothing: `python -m benchmarks.publisher ORDER`."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks import client

# Enough for connection, declarations and prepared statements to be behind us.
WARM_UP = 5


@dataclass(frozen=True)
class Order:
    """What to send. `interval_ms` 0 sends as fast as possible; `limit_s` ends it early."""

    count: int
    warm_up: int = WARM_UP
    interval_ms: float = 0.0
    payload_bytes: int = 0
    limit_s: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """What was sent, from before the first `delay()` to after the last (monotonic ns)."""

    sent: int
    first_ns: int
    last_ns: int
    cpu_s: float


def send(order: Order) -> Outcome:
    """Call `delay()` as ordered."""
    from benchmarks.application import note

    delay, clock, payload = note.delay, time.monotonic_ns, "x" * order.payload_bytes
    pace_ns = int(order.interval_ms * 1_000_000)
    cpu_s = time.process_time()
    first_ns = now = clock()
    deadline = first_ns + int(order.limit_s * 1e9)
    sent = 0
    while sent < order.count and now < deadline:
        if pace_ns:
            time.sleep(max(0, first_ns + sent * pace_ns - now) / 1e9)
        delay(sent, clock(), payload)
        sent += 1
        now = clock()
    return Outcome(sent, first_ns, now, time.process_time() - cpu_s)


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
