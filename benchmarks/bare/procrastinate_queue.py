"""Procrastinate, as its own documentation shows it."""

from __future__ import annotations

import asyncio
import time

from procrastinate import App, PsycopgConnector

from benchmarks.bare.order import Order, follow
from benchmarks.records import Recorder

# How many jobs one statement defers.
_PORTION = 1000


def fill(order: Order) -> None:
    """Install the schema and defer the jobs in large batches."""
    app = _application(order)

    async def defer() -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            task = app.configure_task("note", queue=order.queue)
            for first in range(0, order.count, _PORTION):
                numbers = range(first, min(first + _PORTION, order.count))
                await task.batch_defer_async(*({"number": number} for number in numbers))

    asyncio.run(defer())


def consume(order: Order) -> None:
    """Note each job."""
    recorder = Recorder(order.record_path)
    app = _application(order)

    @app.task(name="note", queue=order.queue)
    async def note(number: int) -> None:
        recorder.started(number, 0, time.monotonic_ns())

    app.run_worker(queues=[order.queue], **order.settings)


def _application(order: Order) -> App:
    return App(connector=PsycopgConnector(conninfo=order.url))


if __name__ == "__main__":
    follow(fill, consume)
