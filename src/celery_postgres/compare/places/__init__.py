"""A place on each kind of server that a comparison may use, and remove again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_postgres.compare import urls
from celery_postgres.compare.failure import Failure

from .amqp import AmqpPlace
from .pgmq import PgmqPlace
from .place import Place, Usage
from .postgresql import PostgresqlPlace
from .redis import RedisPlace
from .sqlalchemy import SqlalchemyPlace

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Place", "Usage", "place_of", "results_place_of", "title_of"]

_KINDS: tuple[type[Place], ...] = (PostgresqlPlace, RedisPlace, AmqpPlace, SqlalchemyPlace, PgmqPlace)


def place_of(
    url: str, name: str, prepared_schema: str | None = None, *, celery: Mapping[str, Any] | None = None
) -> Place:
    """The place of this name for the messages of a broker. Raises Failure for a kind that is not known.

    `celery` holds those of Celery's settings that say how to connect.
    """
    kind = _kind_of(url)
    if kind is None:
        raise _unknown(url, "a broker", [scheme for known in _KINDS for scheme in known.schemes])
    return kind(url, name, prepared_schema, celery)


def results_place_of(url: str, name: str, *, celery: Mapping[str, Any] | None = None) -> Place:
    """The same for the results of a result backend."""
    for kind in _KINDS:
        if _fits(url, kind.result_schemes):
            return kind(url, name, None, celery)
    raise _unknown(url, "a result backend", [scheme for known in _KINDS for scheme in known.result_schemes])


def title_of(url: str) -> str:
    """The name of a kind for people; the scheme of a URL that nobody knows."""
    kind = _kind_of(url)
    return kind.title if kind else urls.scheme_of(url) or "unknown"


def _kind_of(url: str) -> type[Place] | None:
    return next((kind for kind in _KINDS if _fits(url, kind.schemes)), None)


def _fits(url: str, schemes: tuple[str, ...]) -> bool:
    scheme = urls.scheme_of(url)
    return any(scheme == known or (known[-1] == "+" and scheme.startswith(known)) for known in schemes)


def _unknown(url: str, what: str, schemes: list[str]) -> Failure:
    known = ", ".join(f"{scheme}…" if scheme[-1] == "+" else f"{scheme}://" for scheme in schemes)
    return Failure(f"{urls.scheme_of(url)}:// is not known as {what} to compare: take one of {known}")
