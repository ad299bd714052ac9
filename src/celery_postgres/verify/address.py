"""Where the processes of a verification meet: the database, the schema, and the file of notes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "CELERY_POSTGRES_VERIFY"

#: The module of the application that a worker runs.
HOSTED = "celery_postgres.verify.hosted"


@dataclass(frozen=True)
class Address:
    """What a worker of a verification is told, through its environment."""

    url: str
    """The database, with its password."""
    options: dict[str, Any]
    """The transport's options, among them the schema of the verification."""
    notes: Path
    application: str | None = None
    """The user's application as `celery -A` names it; None for the probe."""

    def environment(self) -> dict[str, str]:
        """The variables that hold it. Those of Celery win over what an application configures.

        Its command line reads two of them without the prefix, and these win over all.
        """
        celery = ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND")
        urls = {f"{prefix}{name}": self.url for prefix in ("", "CELERY_") for name in celery}
        return {**urls, VARIABLE: json.dumps(asdict(self), default=str)}

    @classmethod
    def from_environment(cls) -> Address:
        """The address of the process that this one works for. KeyError if it works for none."""
        given = json.loads(os.environ[VARIABLE])
        return cls(**{**given, "notes": Path(given["notes"])})
