"""Run Celery over PostgreSQL: a kombu transport that stores messages in plain tables.

Importing this package registers the URL schemes with kombu and opens nothing. Celery applications need
not even import it: installing the distribution is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import register as _register
from .errors import (
    ChannelError,
    ConfigurationError,
    DatabaseRejected,
    DatabaseUnavailable,
    Error,
    SchemaError,
)

if TYPE_CHECKING:
    from .enlistment import enlist

__version__ = "0.1.0"

SCHEMES = _register.SCHEMES

__all__ = [
    "SCHEMES",
    "ChannelError",
    "ConfigurationError",
    "DatabaseRejected",
    "DatabaseUnavailable",
    "Error",
    "SchemaError",
    "__version__",
    "enlist",
]


def __getattr__(name: str) -> Any:
    """`enlist` is loaded by who uses it: this module is imported wherever kombu is."""
    if name == "enlist":
        from .enlistment import enlist

        return enlist
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
