"""What a process of a comparison is told, through its environment."""

from __future__ import annotations

import os
import pickle
from base64 import b64decode, b64encode
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .failure import Failure, worded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VARIABLE = "CELERY_POSTGRES_COMPARE"

#: The module of the application that a worker runs.
HOSTED = "celery_postgres.compare.hosted"

# Of Celery. They win over what an application configures, so they have to say the same as its settings; those
# without prefix are read by Celery's command line, and win over the others.
_BROKER = ("BROKER_URL", "CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
_BACKEND = ("RESULT_BACKEND", "CELERY_RESULT_BACKEND")


@dataclass(frozen=True)
class Address:
    """One contender, as one of its processes has to know it."""

    settings: dict[str, Any]
    """Celery's: the broker, the backend, and names of our own for all that is made there."""
    notes: Path
    """Where starts and ends of tasks are noted, see `notes`."""
    journal: Path
    """Where rare events are told in words: a worker that is ready, a task that failed."""
    application: str | None = None
    """The user's application as `celery -A` names it; None for the probe."""
    worker: int = 0
    """The number of the worker."""
    ends: bool = False
    """Whether the ends of tasks are noted, too. That costs a signal of Celery for each."""

    @property
    def queue(self) -> str:
        """The only queue that is used."""
        return str(self.settings["task_default_queue"])

    def environment(self) -> dict[str, str]:
        """The variables that hold it. Raises Failure for a setting that no other process can be told."""
        broker = dict.fromkeys(_BROKER, str(self.settings["broker_url"]))
        backend = dict.fromkeys(_BACKEND, str(self.settings["result_backend"]))
        try:
            told = pickle.dumps(asdict(self))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise Failure(
                f"a setting cannot be handed to the workers ({worded(error)}): give a plain value for it"
            ) from error
        return {**broker, **backend, VARIABLE: b64encode(told).decode()}

    @classmethod
    def from_environment(cls) -> Address:
        """The address of the process that this one works for. KeyError if it works for none."""
        # Not JSON, which turns the numbers that some transport options have for keys into texts.
        return cls(**pickle.loads(b64decode(os.environ[VARIABLE])))  # noqa: S301


@contextmanager
def own_variables_aside() -> Iterator[None]:
    """Without the variables by which an application is told its broker: they would win over our settings."""
    aside = {name: os.environ.pop(name) for name in (*_BROKER, *_BACKEND) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(aside)
