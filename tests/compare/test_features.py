"""What each broker can do, as it is seen; and that it is seen, and not believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_postgres.compare import Broker
from celery_postgres.compare.features import FEATURES

from .servers import arena, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery_postgres.compare.arena import Arena

#: What is to be seen of each kind; None where the answer is a number.
EXPECTED = {
    "postgresql": {
        "expiry": False,
        "in_sql": True,
        "transactional": True,
        "priorities": True,
        "delay": True,
        "control": True,
        "events": True,
        "connections": None,
    },
    "redis": {
        "expiry": False,
        "in_sql": False,
        "transactional": False,
        "priorities": True,
        "delay": False,
        "control": True,
        "events": True,
        "connections": None,
    },
    "amqp": {
        "expiry": True,
        "in_sql": False,
        "transactional": False,
        "priorities": False,
        "delay": False,
        "control": True,
        "events": True,
        "connections": None,
    },
}


@pytest.fixture
def made(kind: str, database_url: str, tmp_path: Path) -> Iterator[Arena]:
    with arena(url_of(kind, database_url, tmp_path), quick=True) as made:
        yield made
    assert made.remains == []


@pytest.mark.parametrize("kind", EXPECTED)
def test_features(kind: str, made: Arena) -> None:
    """All of them, in their order, since they share a worker; none is left at the end."""
    found = {feature.key: feature.observe(made, made.request) for feature in FEATURES}
    assert {key: ability.has for key, ability in found.items()} == EXPECTED[kind], found
    words = {True: "yes", False: "no"}
    assert all(a.said.startswith(words[a.has]) for a in found.values() if a.has is not None), found
    assert 3 <= int(found["connections"].said.split()[0]) <= 20
    assert not any(worker.alive for worker in made.workers)
    if kind == "postgresql":
        assert "SELECT count(*) FROM" in found["in_sql"].said
        assert found["priorities"].said == "yes, the highest first: sent 5 0 9 5 0 9, ran 9 9 5 5 0 0"
    if kind == "redis":
        assert found["priorities"].said == "yes, the lowest first: sent 5 0 9 5 0 9, ran 0 0 5 5 9 9"
    if kind == "amqp":
        assert "ran 5 0 9 5 0 9; RabbitMQ needs x-max-priority" in found["priorities"].said


def test_what_is_switched_off_is_not_seen(database_url: str) -> None:
    """The same broker under other options: the order of Redis, and delivery at once.

    By the tasks of the probe, also where an application's own are measured.
    """
    options = {"hold_eta": False, "priority_order": "redis"}
    trials = {feature.key: feature for feature in FEATURES}
    with arena(Broker(database_url, options=options), application="tests.compare.shop") as made:
        assert trials["delay"].observe(made, made.request).has is False
        assert "lowest first" in trials["priorities"].observe(made, made.request).said


@pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning")  # of SQLAlchemy, in kombu
@pytest.mark.parametrize("kind", ["sqla"])
def test_tables_of_kombus(made: Arena) -> None:
    trials = {feature.key: feature for feature in FEATURES}
    found = {key: trials[key].observe(made, made.request) for key in ("in_sql", "transactional", "control")}
    assert {key: ability.has for key, ability in found.items()} == {
        "in_sql": True,
        "transactional": False,
        "control": False,
    }, found
    assert "after the application rolled back" in found["transactional"].said
