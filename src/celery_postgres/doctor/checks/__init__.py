"""The checks, in the order in which they are made: what others depend on comes first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import (
    clock,
    connections,
    dead_letters,
    durability,
    notifications,
    pooler,
    rights,
    schema,
    server,
    snapshots,
    tables,
    workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_postgres.doctor.finding import Finding
    from celery_postgres.doctor.patient import Patient

__all__ = ["CHECKS", "Check"]


@dataclass(frozen=True)
class Check:
    """One noun that is looked at; `in_schema`: only where our tables are."""

    name: str
    run: Callable[[Patient], Iterator[Finding]]
    in_schema: bool = False


CHECKS = (
    Check("server", server.check),
    Check("pooler", pooler.check),
    Check("schema", schema.check),
    Check("rights", rights.check, in_schema=True),
    Check("durability", durability.check),
    Check("clock", clock.check),
    Check("connections", connections.check),
    Check("notifications", notifications.check),
    Check("snapshots", snapshots.check),
    Check("tables", tables.check, in_schema=True),
    Check("workers", workers.check, in_schema=True),
    Check("dead letters", dead_letters.check, in_schema=True),
)
