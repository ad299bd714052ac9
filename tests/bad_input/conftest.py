"""Roles with as few rights as a test wants, and a watch over the password that all of them have."""

from __future__ import annotations

import io
import itertools
import logging
import secrets
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from kombu import pools

from celery_postgres.rights import identifier
from tests.fixtures.broker import broker, pytest_configure, pytest_itemcollected
from tests.fixtures.database import new_server
from tests.fixtures.worker import pytest_runtest_makereport

from .admin import CANARY, Admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_postgres.embedded import EmbeddedPostgres

__all__ = ["broker", "pytest_configure", "pytest_itemcollected", "pytest_runtest_makereport"]

_names = (f"role_{run}_{number}" for run in [secrets.token_hex(4)] for number in itertools.count(1))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any library logs, formatted as an application would see it."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_password_shows(log: io.StringIO, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Neither in a log nor in what is printed."""
    yield
    printed = capfd.readouterr()
    assert CANARY not in log.getvalue() + printed.out + printed.err


@pytest.fixture(scope="session")
def private_server(pytestconfig: pytest.Config) -> Iterator[EmbeddedPostgres]:
    """A server that asks for passwords, whatever DATABASE_URL says."""
    with new_server(pytestconfig) as server:
        yield server


@pytest.fixture
def admin(new_role: Callable[..., str], empty_database_url: str) -> Admin:
    """Whoever owns the test's database, which goes before the roles that own things in it."""
    return Admin(empty_database_url)


@pytest.fixture
def new_role(server: str) -> Iterator[Callable[..., str]]:
    """Makes roles that may log in and nothing else."""
    made: list[str] = []

    def make(attributes: str = "LOGIN", name: str | None = None) -> str:
        role = name or next(_names)
        Admin(server).run(f"CREATE ROLE {identifier(role)} {attributes} PASSWORD '{CANARY}'")
        made.append(role)
        return role

    yield make
    for role in made:
        Admin(server).run(f"DROP ROLE {identifier(role)}")


@pytest.fixture
def new_app() -> Iterator[Callable[..., Celery]]:
    """Makes applications; keywords are their settings."""
    made: list[Celery] = []

    def make(**settings: Any) -> Celery:
        made.append(Celery(f"app{len(made)}", set_as_current=False))
        made[-1].conf.update(settings)
        return made[-1]

    yield make
    for app in made:
        app.close()
    pools.reset()
