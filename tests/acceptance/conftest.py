"""Real processes over a real broker."""

from __future__ import annotations

from tests.fixtures.broker import (
    amqp_broker,
    broker,
    fresh_broker,
    pytest_configure,
    pytest_itemcollected,
    redis_broker,
)
from tests.fixtures.worker import new_site, pytest_runtest_makereport, site

__all__ = [
    "amqp_broker",
    "broker",
    "fresh_broker",
    "new_site",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_runtest_makereport",
    "redis_broker",
    "site",
]
