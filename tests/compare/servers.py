"""The servers that comparisons are tried on, those of them that are there."""

from __future__ import annotations

import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from celery_postgres.compare import Broker, Request
from celery_postgres.compare.arena import Arena
from celery_postgres.compare.contenders import Candidate, candidates
from tests.fixtures.redis_server import COMPARE, redis_url

if TYPE_CHECKING:
    from pathlib import Path

RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"

KINDS = ("postgresql", "redis", "amqp", "sqla", "sqlite")


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError:
        return False
    return True


def require(name: str, port: int) -> None:
    """Skip the test if nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError as error:
        pytest.skip(f"not run over {name}: nothing answers at 127.0.0.1:{port} ({error})")


def url_of(kind: str, database_url: str, folder: Path) -> str:
    """Where a kind is; skips the test if it is not there."""
    if kind == "redis":
        return redis_url(COMPARE)
    if kind == "amqp":
        require("RabbitMQ", 5672)
        return RABBITMQ
    if kind == "sqla":
        return "sqla+" + database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    return f"sqla+sqlite:///{folder}/celery.db" if kind == "sqlite" else database_url


def arena(broker: str | Broker, backend: str | None = None, **request: object) -> Arena:
    """An arena on that broker, or at that URL; not entered yet."""
    named = broker if isinstance(broker, Broker) else Broker(broker, backend)
    asked = Request(named, **{"concurrency": 1, **request})  # type: ignore[arg-type]
    (candidate,) = candidates(asked)
    assert isinstance(candidate, Candidate), candidate
    return Arena(candidate, asked)


def rabbitmq_names() -> set[str]:
    """All queues, exchanges and bindings of RabbitMQ; skips the test where nobody tells."""
    if shutil.which("rabbitmqctl") is None:
        pytest.skip("rabbitmqctl is not there to list RabbitMQ's queues")
    found: set[str] = set()
    for what, columns in (
        ("queues", ["name"]),
        ("exchanges", ["name"]),
        ("bindings", ["source_name", "destination_name", "routing_key"]),
    ):
        done = subprocess.run(
            ["rabbitmqctl", "-q", "--no-table-headers", f"list_{what}", *columns],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            pytest.skip(f"rabbitmqctl may not list RabbitMQ's queues: {done.stderr.strip()[:200]}")
        found |= {f"{what}: {line}" for line in done.stdout.splitlines() if line.strip()}
    return found
