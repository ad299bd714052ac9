"""What is to be verified: a database with options, and perhaps a task of the user's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_postgres.dsn import Dsn
    from celery_postgres.options import Options


@dataclass(frozen=True)
class OwnTask:
    """A task of the user's application, to be run for real."""

    application: str
    """As `celery -A` names it."""
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    """Where the application's routes send it."""


@dataclass(frozen=True)
class Request:
    """One verification."""

    url: str
    dsn: Dsn
    options: Options
    """The options that the application would have; their schema is the application's."""
    given: dict[str, Any] = field(default_factory=dict)
    """Those of them that do not stand in the URL."""
    prepared_schema: str | None = None
    """A schema that somebody made for the verification, where the role may not make one."""
    own_task: OwnTask | None = None
    timeout_s: float = 30.0
    """The longest wait of one check."""
    keep: bool = False
