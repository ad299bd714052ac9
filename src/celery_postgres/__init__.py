"""Run Celery over PostgreSQL: a kombu transport that stores messages in plain tables.

Importing this package registers the URL schemes with kombu and opens nothing. Celery applications need
not even import it: installing the distribution is enough.
"""

from __future__ import annotations

from . import register as _register
from .errors import (
    ChannelError,
    ConfigurationError,
    DatabaseRejected,
    DatabaseUnavailable,
    Error,
    SchemaError,
)

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
]
