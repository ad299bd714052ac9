"""A run in which everything is well, by a role without any special right, beside an application's tables."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.bad_input.admin import CANARY, Admin
from tests.fixtures.database import new_database
from tests.proof_of_concept import guide

from .run import Run, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id bigserial PRIMARY KEY, article text NOT NULL, amount int CHECK (amount > 0));
CREATE INDEX ON shop.orders (article);
CREATE VIEW shop.large AS SELECT * FROM shop.orders WHERE amount > 10;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TABLE public.message (id int); CREATE TABLE public.queue (id int);
CREATE TYPE shop.colour AS ENUM ('red', 'green');
INSERT INTO shop.orders (article, amount) SELECT 'a' || n, n FROM generate_series(1, 100) n;
"""

OBJECTS = """SELECT n.nspname, c.relname, c.oid, c.relkind::text FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('shop', 'public') ORDER BY 1, 2"""


class Shop:
    """A database with tables of an application, and the run over it."""

    def __init__(self, admin: Admin, role: str, folder: Path) -> None:
        self.admin = admin
        self.before = admin.run(OBJECTS)
        self.run: Run = run(
            admin.url_of(role),
            folder,
            *("--url", admin.url_of(role), "--task", "shop.order"),
            *("--args", '["pen"]', "--kwargs", '{"amount": 3}'),
            app="shop",
        )
        self.left = list(folder.iterdir())


@pytest.fixture(scope="module")
def shop(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    role = f"verify_{secrets.token_hex(4)}"
    Admin(server).run(f"CREATE ROLE {role} LOGIN PASSWORD '{CANARY}'")
    try:
        with new_database(server) as url:
            admin = Admin(url)
            admin.run(
                TABLES,
                f"GRANT CREATE ON DATABASE {admin.database} TO {role}",
                f"GRANT USAGE ON SCHEMA shop TO {role}",
                f"GRANT INSERT ON shop.orders TO {role}",
                f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA shop TO {role}",
            )
            yield Shop(admin, role, tmp_path_factory.mktemp("verify"))
    finally:
        Admin(server).run(f"DROP ROLE {role}")


CHECKS = [
    *("connection", "versions", "rights", "schema", "queue counts", "priority", "job", "retries", "failure"),
    *("results", "chord"),
    *("killed worker", "warm shutdown", "own task", "removal", "nothing else"),
]


def test_everything_passes(shop: Shop) -> None:
    """Each check is there once, passed, and the exit code says so."""
    assert shop.run.verdicts() == dict.fromkeys(CHECKS, "PASS"), shop.run.text
    assert shop.run.code == 0
    assert f"{len(CHECKS)} passed, 0 failed, 0 skipped" in shop.run.text


def test_nothing_is_left(shop: Shop) -> None:
    """Neither a schema nor a file; the application's objects are the same ones."""
    assert shop.admin.schemas() == {"shop"}
    assert shop.admin.run(OBJECTS) == shop.before
    assert [file.name for file in shop.left] == ["report.json"]


def test_it_is_fast(shop: Shop) -> None:
    """Minutes are too long for somebody who wants to be convinced."""
    assert sum(check["seconds"] for check in shop.run.report["checks"]) < 60


@pytest.mark.parametrize(
    ("check", "figures"),
    [
        ("priority", {"order": [10, 5, 0, 0]}),
        ("retries", {"runs": 3}),
        ("failure", {"runs": 3}),
        ("own task", {"runs": 2}),
        ("schema", {"tables_of_others": 3}),
    ],
)
def test_exact_figures(shop: Shop, check: str, figures: dict[str, Any]) -> None:
    """What can be counted is counted."""
    assert figures.items() <= shop.run.check(check)["figures"].items()


@pytest.mark.parametrize(
    ("check", "figure"),
    [
        ("connection", "connect_s"),
        ("job", "start_s"),
        ("job", "publish_s"),
        ("results", "round_trip_s"),
        ("chord", "chord_s"),
        ("killed worker", "redelivered_after_s"),
        ("warm shutdown", "shutdown_s"),
        ("priority", "worker_ready_s"),
    ],
)
def test_measured_figures(shop: Shop, check: str, figure: str) -> None:
    """What takes time is measured."""
    assert 0 < shop.run.check(check)["figures"][figure] < 30


def test_gaps_of_retries(shop: Shop) -> None:
    """Between two runs there is the delay at least."""
    for check in ("retries", "failure"):
        assert all(0.95 <= gap < 5 for gap in shop.run.check(check)["figures"]["gaps_s"])


def test_own_task_really_ran(shop: Shop) -> None:
    """Both attempts wrote into the application's table; the report says so beforehand."""
    rows = shop.admin.run("SELECT article, amount FROM shop.orders WHERE id > 100")
    assert rows == [("pen", 3), ("pen", 3)]
    assert "'3 of pen'" in shop.run.check("own task")["said"]
    assert 'shop.order("pen", amount=3) of -A shop really runs' in shop.run.text.replace("\n", " ")


def test_the_guide_shows_it(shop: Shop) -> None:
    """`docs/proof-of-concept.md` shows such a run; UPDATE_GUIDE=1 puts this one there."""
    block = guide.verify_block()
    if os.environ.get("UPDATE_GUIDE"):
        guide.write({block.line: shop.run.text})
    else:
        assert guide.flat(shop.run.text) == guide.flat(block.text)


def test_no_password_shows(shop: Shop) -> None:
    assert CANARY not in shop.run.text
    assert CANARY not in str(shop.run.report)
