"""`compare`: PostgreSQL beside the brokers that an application may use today, measured on its own machine."""

from __future__ import annotations

from . import urls
from .contenders import names_of
from .request import NO_RESULTS, Broker, Call, Request
from .run import Comparison
from .settings import OF_BROKER, OF_MESSAGES

__all__ = [
    "Broker",
    "Call",
    "Comparison",
    "NO_RESULTS",
    "OF_BROKER",
    "OF_MESSAGES",
    "Request",
    "names_of",
    "urls",
]
