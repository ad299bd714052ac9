"""Processes that fork, over a database of the test's own."""

from __future__ import annotations

from tests.fixtures.broker import broker, fresh_broker, pytest_configure, pytest_itemcollected
from tests.fixtures.worker import pytest_runtest_makereport, site

__all__ = [
    "broker",
    "fresh_broker",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_runtest_makereport",
    "site",
]
