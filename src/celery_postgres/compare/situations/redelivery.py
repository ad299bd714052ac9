"""When each kind of broker gives a message to somebody else, in the words of its own settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena

#: RabbitMQ's, which a client cannot read.
CONSUMER_TIMEOUT = "consumer_timeout (a setting of the server, by default 30 min)"

_RULES = {
    "postgresql": "PostgreSQL gives back what a worker holds once the worker's sessions are gone",
    "amqp": "RabbitMQ gives back what a worker holds once the worker's connection is gone",
    "sqla": "the SQLAlchemy transport never gives back what a worker held that was killed",
}


def rule(arena: Arena) -> str:
    """A sentence's second half, without a full stop."""
    kind, title = arena.place.kind, arena.place.title
    if kind in ("redis", "pgmq"):
        return f"{title} gives back what a worker holds only after {visibility(arena)}"
    return _RULES.get(kind, "the broker gave nothing back")


def visibility(arena: Arena) -> str:
    """The visibility timeout as it is in force, also where it is the transport's own default."""
    given = arena.address.settings["broker_transport_options"].get("visibility_timeout")
    return (
        f"visibility_timeout = {_default(arena):g} s" if given is None else f"visibility_timeout = {given} s"
    )


def _default(arena: Arena) -> float:
    with arena.client.connection_for_write() as connection:
        channel: Any = connection.default_channel
        names = ("visibility_timeout", "default_visibility_timeout")
        return float(next(getattr(channel, name) for name in names if hasattr(channel, name)))
