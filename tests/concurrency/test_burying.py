"""What waits past its time, and a sweeper that is stopped in the middle of burying it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_postgres import dsn
from celery_postgres.connection import Database
from celery_postgres.errors import DatabaseRejected
from celery_postgres.liveness import Incarnation
from celery_postgres.options import Options
from celery_postgres.sql import messages
from celery_postgres.sweeper import Sweeper
from celery_postgres.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_postgres.encoding import Rows
    from celery_postgres.topology import Run
    from celery_postgres.wire import Call

    from .hand import Hand

STATES = "SELECT (SELECT count(*) FROM celery.ready), (SELECT count(*) FROM celery.unacked)"


@pytest.fixture
def run(url: str) -> Iterator[Run]:
    session, _ = Database(dsn.parse(url), Options()).open()
    yield session.run
    session.close()


@pytest.fixture
def new_sweeper(run: Run) -> Callable[[Run], Sweeper]:
    """Of a consumer that is alive."""
    incarnation = Incarnation()
    run(*incarnation.register(pooled=False))

    def make(by: Run) -> Sweeper:
        return Sweeper(by, incarnation.id, Options(), Watch(), ring=lambda _: None, beat=lambda: None)

    return make


def expired(hand: Hand, count: int) -> None:
    hand.queue("q")
    for _ in range(count):
        hand.publish("q")
    hand.sql("UPDATE celery.message SET expires_at = now() - interval '1 s'")


def test_all_of_many_are_buried_in_one_round(
    hand: Hand, run: Run, new_sweeper: Callable[[Run], Sweeper]
) -> None:
    """Some at a time, since they come with their bodies."""
    expired(hand, 120)
    new_sweeper(run)._bury_expired()
    assert hand.value("SELECT count(*) FROM celery.message") == 0


def test_sweeper_that_is_stopped_before_the_burial(
    hand: Hand, run: Run, new_sweeper: Callable[[Run], Sweeper]
) -> None:
    """What it had taken for that returns, although its worker lives on."""
    expired(hand, 3)

    def refuse(*calls: Call) -> list[Rows]:
        if calls[-1][0] is messages.REJECT:
            raise DatabaseRejected("the disk is full", "53100")
        return run(*calls)

    sweeper = new_sweeper(refuse)
    with pytest.raises(DatabaseRejected):
        sweeper._bury_expired()
    assert hand.sql(STATES) == [(0, 3)]
    hand.sql("UPDATE celery.unacked SET claimed_at = now() - interval '1 min'")
    sweeper._ring(sweeper._reaper.release_orphans())
    assert hand.sql(STATES) == [(3, 0)]
