"""Four login roles with the rights that `celery-postgres grants` gives, over a schema that an owner made."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from celery_postgres import dsn, schema
from celery_postgres.purposes import PURPOSES
from tests.bad_input.conftest import _no_password_shows, admin, log, new_app, new_role
from tests.fixtures.worker import pytest_runtest_makereport

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bad_input.admin import Admin

__all__ = ["_no_password_shows", "admin", "log", "new_app", "new_role", "pytest_runtest_makereport"]


def celery_postgres(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`celery-postgres` on a database."""
    program = str(Path(sys.executable).with_name("celery-postgres"))
    return subprocess.run(
        [program, "--url", url, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@dataclass(frozen=True)
class Roles:
    """The roles by purpose."""

    admin: Admin
    names: dict[str, str]

    def url(self, purpose: str) -> str:
        return self.admin.url_of(self.names[purpose])

    def grant(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`celery-postgres grants` for these roles."""
        named = [word for purpose, name in self.names.items() for word in (f"--{purpose}", name)]
        return celery_postgres(self.admin.url, "grants", *named, *arguments)


@pytest.fixture
def roles(admin: Admin, new_role: Callable[..., str]) -> Roles:
    """Four roles that may log in, with the rights of their purposes and no others."""
    schema.upgrade(dsn.parse(admin.url), "celery")
    made = Roles(admin, {purpose: new_role() for purpose in PURPOSES})
    done = made.grant("--apply")
    assert done.returncode == 0, done.stderr
    return made
