"""Pauses between attempts: within their bounds, growing, and never in step."""

from __future__ import annotations

from celery_postgres.backoff import LONGEST, SHORTEST, Backoff, Patience
from celery_postgres.sqlstates import Reaction, reaction


def test_pauses_stay_within_their_bounds() -> None:
    """However often it fails."""
    backoff = Backoff()
    pauses = [backoff.next() for _ in range(1000)]
    assert min(pauses) >= SHORTEST
    assert max(pauses) <= LONGEST
    assert sum(pauses[:3]) < 5
    assert sum(pauses) / len(pauses) > 1


def test_success_begins_anew() -> None:
    """The first pause after a success is a short one."""
    backoff = Backoff()
    for _ in range(100):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 3 * SHORTEST


def test_processes_that_failed_together_part() -> None:
    """No two have the same pauses."""
    assert len({tuple(Backoff().next() for _ in range(3)) for _ in range(100)}) == 100


def test_what_may_be_gone_at_once_is_tried_soon() -> None:
    """A deadlock is not waited for as a full disk is."""
    patience = Patience()
    assert all(patience.after(Reaction.RETRY) <= 0.5 for _ in range(100))
    assert max(patience.after(Reaction.BACK_OFF) for _ in range(100)) > 0.5


def test_longest_beginning_decides() -> None:
    """A code that the table names beats its class; what nothing names goes to the caller."""
    assert reaction("25006") is reaction("25P02") is Reaction.RECONNECT
    assert reaction("57014") is Reaction.RETRY
    assert reaction("57P01") is Reaction.RECONNECT
    assert reaction("42501") is Reaction.STOP
    assert reaction("42601") is Reaction.GIVE
    assert reaction(None) is reaction("") is Reaction.GIVE
