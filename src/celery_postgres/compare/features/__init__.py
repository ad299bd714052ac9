"""What each contender can do, as it was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connections import CONNECTIONS
from .database import IN_SQL, TRANSACTIONAL
from .delivery import DELAY, EXPIRY, PRIORITIES
from .talk import CONTROL, EVENTS

if TYPE_CHECKING:
    from celery_postgres.compare.report.model import Ability
    from celery_postgres.compare.trial import Trial

__all__ = ["FEATURES"]

#: First those without a worker, then those that share one, which the last of them ends.
FEATURES: tuple[Trial[Ability], ...] = (
    EXPIRY,
    IN_SQL,
    TRANSACTIONAL,
    CONNECTIONS,
    PRIORITIES,
    DELAY,
    CONTROL,
    EVENTS,
)
