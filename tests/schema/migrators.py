"""Many processes that set one schema up at the same moment.

python -m tests.schema.migrators URL SCHEMA COUNT
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import TYPE_CHECKING

from celery_postgres import dsn, schema

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier


def migrate(url: str, name: str, start: Barrier) -> None:
    start.wait()
    schema.upgrade(dsn.parse(url), name)


def main(url: str, name: str, count: str) -> int:
    import alembic.command  # noqa: F401 - once, before the fork
    import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401

    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(int(count))
    processes = [fork.Process(target=migrate, args=(url, name, start)) for _ in range(int(count))]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    failed = [process.exitcode for process in processes if process.exitcode != 0]
    print(f"{len(processes) - len(failed)} of {len(processes)} succeeded")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
