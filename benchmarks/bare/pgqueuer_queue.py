"""pgqueuer, as its own documentation shows it."""

from __future__ import annotations

import asyncio
import time

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job  # noqa: TC002  # pgqueuer reads the annotation
from pgqueuer.queries import Queries

from benchmarks.bare.order import Order, follow
from benchmarks.records import Recorder


def fill(order: Order) -> None:
    """Install the tables and enqueue all at once."""

    async def enqueue() -> None:
        connection = await asyncpg.connect(order.url)
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        bodies = [str(number).encode() for number in range(order.count)]
        await queries.enqueue([order.queue] * order.count, bodies, [0] * order.count)
        await connection.close()

    asyncio.run(enqueue())


def consume(order: Order) -> None:
    """Note each job."""
    recorder = Recorder(order.record_path)

    async def run() -> None:
        queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(order.url)))

        @queuer.entrypoint(order.queue)
        async def note(job: Job) -> None:
            recorder.started(int(job.payload or b"0"), 0, time.monotonic_ns())

        await queuer.run(**order.settings)

    asyncio.run(run())


if __name__ == "__main__":
    follow(fill, consume)
