"""A client process that waits for what it calls: `python -m benchmarks.caller ORDER`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import client

if TYPE_CHECKING:
    from collections.abc import Callable

# Every child of the pool shall have run a task before the clock counts, and sessions shall be open.
_AT_ONCE = 20
_ONE_BY_ONE = 10

# A worker may still be starting when the warm-up begins.
_WARM_UP_S = 30.0


@dataclass(frozen=True)
class Order:
    """What to call, one after the other: `delay()`, or a chord whose header has `chord_size` tasks.

    `pause_ms` follows every answer; `limit_s` ends it early, and is how long an answer is waited for.
    """

    count: int
    chord_size: int = 0
    pause_ms: float = 0.0
    limit_s: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """How long each took, from before the call to after `get()` (ms), and the CPU of this process."""

    took_ms: list[float]
    cpu_s: float


def call(order: Order) -> Outcome:
    """Call as ordered."""
    clock, took_ms = time.monotonic_ns, []
    act = _chord(order) if order.chord_size else _round_trip(order)
    cpu_s = time.process_time()
    deadline = clock() + int(order.limit_s * 1e9)
    for number in range(order.count):
        began = clock()
        act(number)
        ended = clock()
        took_ms.append((ended - began) / 1e6)
        if ended > deadline:
            break
        if order.pause_ms:
            time.sleep(order.pause_ms / 1000)
    return Outcome(took_ms, time.process_time() - cpu_s)


def _round_trip(order: Order) -> Callable[[int], None]:
    from benchmarks.application import note

    def act(number: int) -> None:
        answer = note.delay(number, time.monotonic_ns()).get(timeout=order.limit_s)
        if answer != number:
            raise AssertionError(f"task {number} answered {answer!r}")

    return act


def _chord(order: Order) -> Callable[[int], None]:
    from celery import chord

    from benchmarks.application import note, total

    header = [note.s(number, 0) for number in range(order.chord_size)]
    expected = sum(range(order.chord_size))

    def act(number: int) -> None:
        answer = chord(header)(total.s()).get(timeout=order.limit_s)
        if answer != expected:
            raise AssertionError(f"chord {number} of {order.chord_size} answered {answer!r}")

    return act


def main() -> None:
    """Follow the order of the command line."""
    from benchmarks.application import note

    order = Order(**client.ordered())

    def warm_up() -> None:
        under_way = [note.delay(-1 - number, 0) for number in range(_AT_ONCE)]
        for result in under_way:
            result.get(timeout=_WARM_UP_S)
        for number in range(_ONE_BY_ONE):
            note.delay(-1 - _AT_ONCE - number, 0).get(timeout=_WARM_UP_S)
        if order.chord_size:
            _chord(Order(1, chord_size=2, limit_s=_WARM_UP_S))(-1)

    client.follow(warm_up, lambda: call(order))


if __name__ == "__main__":
    main()
