"""A server with everything that can be wrong, and the doctor who looks at a database of it."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from kombu import Connection

from celery_postgres import dsn, schema
from celery_postgres.doctor import Examination, Finding, examine
from celery_postgres.doctor.patient import Patient
from celery_postgres.embedded import EmbeddedPostgres, find_bindir
from celery_postgres.options import Options
from tests.bad_input.admin import Admin
from tests.bad_input.conftest import log, new_role
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import pytest_runtest_makereport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["log", "new_role", "pytest_runtest_makereport"]

_numbers = itertools.count(1)

SETTINGS = {"max_prepared_transactions": "5", "wal_level": "logical", "max_connections": "40"}


@dataclass(frozen=True)
class Doctor:
    """Examines a database, as whichever role."""

    url: str
    admin: Admin

    def examine(self, url: str | None = None, *, needs: tuple[str, ...] = (), **given: Any) -> Examination:
        target = dsn.parse(url or self.url)
        patience_s, clock = given.pop("patience_s", 60.0), given.pop("clock", None)
        options = Options.parse({**target.options, **given})
        more = {} if clock is None else {"clock": clock}
        return examine(Patient(target, options, patience_s=patience_s, needs=needs, **more))

    def findings(self, check: str, url: str | None = None, **given: Any) -> list[Finding]:
        """What one check has found."""
        return [found for found in self.examine(url, **given).findings if found.check == check]

    def finding(self, check: str, pattern: str, url: str | None = None, **given: Any) -> Finding:
        """The one finding of a check whose text has the pattern."""
        found = self.findings(check, url, **given)
        named = [finding for finding in found if pattern in finding.said]
        assert len(named) == 1, found
        return named[0]

    def cure(self, remedy: str) -> None:
        """Execute the statements of a remedy as they stand."""
        statements = re.findall(
            r"(?:ALTER|REVOKE|GRANT|SELECT|ANALYZE|DROP|REINDEX|ROLLBACK)\b[^;]*;", remedy
        )
        assert statements, remedy
        self.admin.run(*statements)

    def publish(self, count: int = 1) -> None:
        """So many messages into the queue `celery`."""
        with Connection(self.url) as connection:
            simple = connection.SimpleQueue("celery")
            for number in range(count):
                simple.put(number)


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Iterator[str]:
    """A server of these tests' own: what is made here would be in the way of others."""
    bindir = find_bindir(pytestconfig.getoption("--postgres-major"))
    with EmbeddedPostgres(settings=SETTINGS, bindir=bindir) as private:
        yield private.url


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """The name of a database that is set up, to be copied."""
    Admin(server).run("CREATE DATABASE healthy TEMPLATE template0 ENCODING 'UTF8'")
    schema.upgrade(dsn.parse(urlsplit(server)._replace(path="/healthy").geturl()), "celery")
    return "healthy"


@pytest.fixture
def doctor(server: str, template: str, new_role: object) -> Iterator[Doctor]:
    """Over a database that is set up and healthy."""
    name = f"patient_{next(_numbers)}"
    Admin(server).run(f"CREATE DATABASE {name} TEMPLATE {template}")
    url = urlsplit(server)._replace(path=f"/{name}").geturl()
    try:
        yield Doctor(url, Admin(url))
    finally:
        Admin(server).run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def altered(doctor: Doctor) -> Iterator[Callable[[str, str], None]]:
    """Changes settings of the server until the test ends."""
    changed: list[str] = []

    def alter(name: str, value: str) -> None:
        changed.append(name)
        doctor.admin.run(f"ALTER SYSTEM SET {name} = '{value}'", "SELECT pg_reload_conf()")
        eventually(lambda: doctor.admin.run(f"SHOW {name}") == [(value,)])

    yield alter
    for name in changed:
        doctor.admin.run(f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()")
        eventually(
            lambda name=name: (
                doctor.admin.run(f"SELECT sourcefile FROM pg_settings WHERE name = '{name}'") == [(None,)]
            )
        )
