"""Tries on a database whether it will serve, in minutes and without a trace: `celery-postgres verify`.

Every check does the real thing, in a schema of its own and with real `celery worker` processes, and says
what it saw, in how many seconds, or what is missing and who can grant it.
"""

from __future__ import annotations

from .request import OwnTask, Request
from .run import Verification

__all__ = ["OwnTask", "Request", "Verification"]
