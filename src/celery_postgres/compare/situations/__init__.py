"""What each contender does when something goes wrong, or lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import worker_killed
from .broker_restart import RESTART
from .child_killed import CHILD
from .eta import ETA
from .long_task import LONG
from .warm_shutdown import WARM

if TYPE_CHECKING:
    from celery_postgres.compare.report.model import Behaviour
    from celery_postgres.compare.trial import Trial

__all__ = ["SITUATIONS"]

#: In an order in which a worker that stands by serves as many of them as it can; ends without one.
SITUATIONS: tuple[Trial[Behaviour], ...] = (
    LONG,
    worker_killed.LATE,
    CHILD,
    worker_killed.EARLY,
    WARM,
    RESTART,
    ETA,
)
