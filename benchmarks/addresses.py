"""Where the servers of a run are; a PostgreSQL of its own is started for it if none is given."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.servers import UnreachableError

if TYPE_CHECKING:
    from typing_extensions import Self

REDIS = "redis://127.0.0.1:6379/15"
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"

# What the private server would do anyway, said aloud: its figures are those of durable commits.
# Room for a hundred workers, each with a few sessions.
_DURABLE = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "1000",
}


class Addresses:
    """URLs of servers on this machine; leaving the `with` block stops what was started.

    PostgreSQL is the given URL, else DATABASE_URL, else a private server, started when first asked for.
    """

    def __init__(self, redis: str | None, rabbitmq: str | None, postgresql: str | None) -> None:
        self.redis = redis or REDIS
        self.rabbitmq = rabbitmq or RABBITMQ
        self._postgresql = postgresql or os.environ.get("DATABASE_URL")
        self._started = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def postgresql(self) -> str:
        """Return the URL of a PostgreSQL server as libpq reads it, or raise UnreachableError."""
        if self._postgresql is None:
            from celery_postgres.embedded import EmbeddedPostgres
            from celery_postgres.errors import Error

            try:
                server = self._started.enter_context(EmbeddedPostgres(settings=_DURABLE))
            except Error as error:
                raise UnreachableError(f"no private PostgreSQL ({error}); or set DATABASE_URL") from error
            self._postgresql = server.url
        # An application's URL may name a driver, as SQLAlchemy does.
        return f"postgresql://{self._postgresql.partition('://')[2]}"
