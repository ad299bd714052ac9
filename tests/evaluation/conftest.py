"""The example is a package in `examples/`, and its Celery configuration lies beside it at the top."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.evaluation import PLANTED, ROOT

for folder in (ROOT, ROOT / "examples"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture
def sessions(empty_module_database_url: str) -> sessionmaker[Session]:
    """Sessions on the module's database, with the application's tables, all of them empty."""
    from evaluation.database import create_tables, engine_for, sessions_for
    from evaluation.models import Base
    from sqlalchemy import text

    engine = engine_for(empty_module_database_url)
    create_tables(engine)
    tables = ", ".join(str(table) for table in Base.metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    return sessions_for(engine)


@pytest.fixture
def pending(sessions: sessionmaker[Session]) -> Callable[..., int]:
    """Make an evaluation of the planted document by the plugins named."""

    from evaluation.load import load

    def make(*plugins: str, **settings: Any) -> int:
        return load(sessions, [PLANTED], plugins, settings)[0]

    return make
