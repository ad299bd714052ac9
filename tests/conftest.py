"""What holds for every test: the options of a run, its header, and the fixtures of `fixtures/`."""

from __future__ import annotations

import platform
import signal
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["tests.fixtures.canary", "tests.fixtures.database"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes")


def pytest_configure() -> None:
    """End a run in good order also by SIGTERM, and by SIGINT where a script made us ignore it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def pytest_report_header() -> str:
    libraries = [f"{name} {version(name)}" for name in ("celery", "kombu", "psycopg")]
    return ", ".join([f"Python {platform.python_version()}", *libraries])


def pytest_itemcollected(item: pytest.Item) -> None:
    if "transport" in item.path.parts:
        item.add_marker("smoke")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
