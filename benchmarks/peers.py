"""Which brokers are compared: one table, read by every figure.

A peer is a way to configure Celery, so one server may stand behind several
(RabbitMQ with and without publisher confirms, PostgreSQL under two transports).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.bare.contestants import PgBossServer
from benchmarks.pgbouncer import PgbouncerServer
from benchmarks.servers import (
    NoServer,
    PgmqServer,
    PostgresqlServer,
    RabbitmqServer,
    RedisServer,
    Server,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.addresses import Addresses

DRAIN = "drain"
PUBLISH = "publish"
LATENCY = "latency"
ROUNDTRIP = "roundtrip"
CHORDS = "chords"
IDLE = "idle"
BACKLOG = "backlog"
SUSTAINED = "sustained"
QUEUES = "queues"
RECOVERY = "recovery"

_TASKS = frozenset({DRAIN, PUBLISH, LATENCY, IDLE, SUSTAINED})
_RESULTS = frozenset({ROUNDTRIP, CHORDS})


@dataclass(frozen=True)
class Results:
    """Where results go: to a `server` of their own, else to the broker's place.

    `scheme` replaces the scheme of the broker's URL, None keeps it. `module` must be installed.
    """

    server: Callable[[Addresses], Server] | None = None
    scheme: str | None = None
    module: str | None = None


@dataclass(frozen=True)
class Peer:
    """One line of every table.

    `scheme` replaces the scheme of the server's URL, None keeps it. `module` must be
    installed. `options` are transport options, `configuration` is Celery's.
    `results` is asked for by figures of results alone.
    `green_only` peers take part where the pool is gevent or eventlet.
    `exact` is False where messages are copies that cannot be told apart.
    """

    name: str
    server: Callable[[Addresses], Server]
    scheme: str | None = None
    module: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    results: Results | None = None
    figures: frozenset[str] = _TASKS
    green_only: bool = False
    honours_delivery_mode: bool = False
    exact: bool = True

    def reach(self, addresses: Addresses) -> Server:
        """Return the server, reached once; raise UnreachableError."""
        return _reached(self.server, self.module, addresses)

    def reach_results(self, addresses: Addresses) -> Server | None:
        """Return the server that results have to themselves, likewise; None if they have none."""
        if self.results is None or self.results.server is None:
            return None
        return _reached(self.results.server, self.results.module, addresses)


_IN_REDIS = Results(lambda at: RedisServer(at.redis), module="redis")

PEERS: tuple[Peer, ...] = (
    Peer(
        "redis",
        lambda at: RedisServer(at.redis),
        module="redis",
        results=Results(),
        figures=_TASKS | _RESULTS | {RECOVERY},
    ),
    Peer(
        "rabbitmq",
        lambda at: RabbitmqServer(at.rabbitmq),
        module="amqp",
        figures=_TASKS | {RECOVERY},
        honours_delivery_mode=True,
    ),
    Peer(
        "rabbitmq-confirm",
        lambda at: RabbitmqServer(at.rabbitmq),
        module="amqp",
        options={"confirm_publish": True},
        # A worker that drains publishes nothing, so confirms cannot matter there.
        figures=frozenset({PUBLISH, LATENCY}),
        honours_delivery_mode=True,
    ),
    Peer(
        # With heartbeats, Celery 5.7.0 waits 0.1 s in every turn of a green worker's loop for
        # those of its event connection. That is a matter of Celery, not of RabbitMQ, so both are shown.
        "rabbitmq-no-heartbeat",
        lambda at: RabbitmqServer(at.rabbitmq),
        module="amqp",
        configuration={"broker_heartbeat": 0},
        figures=frozenset({DRAIN}),
        green_only=True,
    ),
    Peer(
        "rabbitmq-rpc",
        lambda at: RabbitmqServer(at.rabbitmq),
        module="amqp",
        results=Results(scheme="rpc"),
        # Celery's rpc backend refuses chords.
        figures=frozenset({ROUNDTRIP}),
    ),
    Peer(
        "rabbitmq-redis",
        lambda at: RabbitmqServer(at.rabbitmq),
        module="amqp",
        results=_IN_REDIS,
        figures=_RESULTS,
    ),
    Peer(
        "rabbitmq-confirm-redis",
        lambda at: RabbitmqServer(at.rabbitmq),
        module="amqp",
        options={"confirm_publish": True},
        results=_IN_REDIS,
        figures=_RESULTS,
    ),
    Peer(
        "sqlalchemy",
        lambda at: PostgresqlServer(at.postgresql()),
        scheme="sqla+postgresql+psycopg",
        module="sqlalchemy",
    ),
    Peer(
        "pgmq",
        lambda at: PgmqServer(at.postgresql()),
        scheme="pgmq",
        module="pgmq",
        options={"init_extension": False},
    ),
    Peer(
        # As near to being woken as its options allow; by default it looks every 0.1 s.
        "pgmq-notify",
        lambda at: PgmqServer(at.postgresql()),
        scheme="pgmq",
        module="pgmq",
        options={
            "init_extension": False,
            "use_notify": True,
            "notify_throttle_interval_ms": 0,
            "wait_time_seconds": 0,
        },
        figures=frozenset({LATENCY}),
    ),
    Peer(
        "celery-postgres",
        lambda at: PostgresqlServer(at.postgresql()),
        scheme="postgresql",
        module="celery_postgres.transport",
        results=Results(),
        figures=_TASKS | _RESULTS | {BACKLOG, RECOVERY},
        honours_delivery_mode=True,
    ),
    Peer(
        # What a broker without confirms promises: `delay()` waits for no disk.
        "celery-postgres-transient",
        lambda at: PostgresqlServer(at.postgresql()),
        scheme="postgresql",
        module="celery_postgres.transport",
        configuration={"task_default_delivery_mode": "transient"},
        results=Results(),
        figures=_RESULTS,
    ),
    Peer(
        "celery-postgres-pooled",
        lambda at: PgbouncerServer(at.postgresql()),
        scheme="postgresql",
        module="celery_postgres.transport",
        figures=frozenset({RECOVERY}),
    ),
    Peer(
        "celery-postgres-dedup",
        lambda at: PostgresqlServer(at.postgresql()),
        scheme="postgresql",
        module="celery_postgres.transport",
        options={"publish_dedup": True},
        figures=frozenset({PUBLISH}),
        honours_delivery_mode=True,
    ),
    Peer(
        "celery-postgres-db",
        lambda at: PostgresqlServer(at.postgresql()),
        scheme="postgresql",
        module="celery_postgres.transport",
        results=Results(scheme="db+postgresql+psycopg"),
        figures=_RESULTS,
    ),
    Peer(
        "celery-postgres-bare",
        lambda at: PostgresqlServer(at.postgresql()),
        module="celery_postgres.transport",
        figures=frozenset({QUEUES}),
    ),
    Peer(
        "pgqueuer",
        lambda at: PostgresqlServer(at.postgresql()),
        module="pgqueuer",
        figures=frozenset({QUEUES}),
    ),
    Peer(
        "procrastinate",
        lambda at: PostgresqlServer(at.postgresql()),
        module="procrastinate",
        figures=frozenset({QUEUES}),
    ),
    Peer("pg-boss", lambda at: PgBossServer(at.postgresql()), figures=frozenset({QUEUES})),
    Peer("null", lambda _: NoServer(), figures=frozenset({DRAIN, PUBLISH}), exact=False),
)


def _reached(find: Callable[[Addresses], Server], module: str | None, addresses: Addresses) -> Server:
    if module is not None and not _is_installed(module):
        raise UnreachableError(f"{module} is not installed; run `pip install -e .[test,benchmarks]`")
    server = find(addresses)
    server.reach()
    return server


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def named(name: str) -> Peer:
    """Return the peer of this name; ValueError lists those that exist."""
    for peer in PEERS:
        if peer.name == name:
            return peer
    raise ValueError(f"no peer is called {name!r}; choose from {', '.join(peer.name for peer in PEERS)}")
