"""The evaluation application beside the brokers of this machine: `python3 dev.py compare`.

PostgreSQL is DATABASE_URL, else a private server. Redis and RabbitMQ are those on loopback, or REDIS_URL and
RABBITMQ_URL; a Redis that is installed and not running is started for the comparison, with a private folder.
Everything else is `celery -A evaluation.app postgres compare`, which gets all arguments.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

REDIS = "redis://127.0.0.1:6379/0"
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"

# What the private server would do anyway, said aloud: its figures are those of durable commits.
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_START_S = 10.0

GET_REDIS = "Redis is not compared: install it (apt install redis-server), or docker run -p 6379:6379 redis"
GET_RABBITMQ = (
    "RabbitMQ is not compared: install it (apt install rabbitmq-server), or docker run -p 5672:5672 rabbitmq"
)
START_RABBITMQ = (
    "RabbitMQ is not compared: it is installed and does not run; start it by `sudo rabbitmq-server -detached`"
)
NEITHER = (
    "PostgreSQL is compared with kombu's own transport over the same server, for want of another broker."
)


def main(arguments: list[str]) -> None:
    """Never returns: the exit code is that of the comparison."""
    from celery.__main__ import main as celery

    from celery_postgres.embedded import EmbeddedPostgres

    with ExitStack() as stack:
        if not os.environ.get("DATABASE_URL"):
            server = stack.enter_context(EmbeddedPostgres(settings=_DURABLE))
            os.environ["DATABASE_URL"] = server.url
        # The database is the application's present broker; workers import the application, too.
        os.environ.pop("BROKER_URL", None)
        os.environ.setdefault("RESULT_BACKEND", os.environ["DATABASE_URL"])
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "examples"), str(ROOT)])
        if any("evaluation." in argument for argument in arguments):
            _load_documents()
        others = [] if "--with" in arguments else _others(stack)
        brokers = [argument for url in others for argument in ("--with", url)]
        sys.argv = ["celery", "-A", "evaluation.app", "postgres", "compare", *brokers, *arguments]
        celery()


def _others(stack: ExitStack) -> list[str]:
    """What of Redis and RabbitMQ is there or can be started; says how to get the rest."""
    found = []
    redis = os.environ.get("REDIS_URL", REDIS)
    if _answers(redis, 6379):
        found.append(redis)
    elif shutil.which("redis-server"):
        found.append(stack.enter_context(_private_redis()))
    else:
        print(GET_REDIS, file=sys.stderr)
    rabbitmq = os.environ.get("RABBITMQ_URL", RABBITMQ)
    if _answers(rabbitmq, 5672):
        found.append(rabbitmq)
    else:
        # For Debian and its descendants, it is where only root looks.
        there = shutil.which("rabbitmq-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        print(START_RABBITMQ if there else GET_RABBITMQ, file=sys.stderr)
    if not found:
        print(NEITHER, file=sys.stderr)
        found.append("sqla+postgresql+psycopg://" + os.environ["DATABASE_URL"].partition("://")[2])
    return found


def _answers(url: str, usual_port: int) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or usual_port), 2).close()
    except OSError:
        return False
    return True


@contextmanager
def _private_redis() -> Iterator[str]:
    """One that writes its append-only file, since PostgreSQL writes its log as well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="celery-postgres-redis-") as folder:
        options = ["--bind", "127.0.0.1", "--dir", folder, "--appendonly", "yes", "--save", ""]
        # In a session of its own: Ctrl+C at the terminal is for the comparison, which still has to clean up.
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), *options],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        url = f"redis://127.0.0.1:{port}/0"
        try:
            deadline = time.monotonic() + _START_S
            while not _answers(url, port) and time.monotonic() < deadline and server.poll() is None:
                time.sleep(0.05)
            print(f"Redis is started for this, on port {port}.", file=sys.stderr)
            yield url
        finally:
            server.terminate()
            server.wait()


def _load_documents() -> None:
    """What the application's tasks work on: evaluations 1, 2, …"""
    from evaluation.database import create_tables, engine_for, sessions_for
    from evaluation.load import load

    engine = engine_for()
    create_tables(engine)
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    ids = load(sessions_for(engine), documents)
    print(f"Evaluations {ids[0]} to {ids[-1]} are there for --task evaluation.evaluate.", file=sys.stderr)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "examples")]
    main(sys.argv[1:])
