"""Bindings and exchanges that change at the same moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_postgres.sql import topology
from celery_postgres.topology import deletion

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_postgres.wire import Call

    from .hand import Hand

BINDINGS = "SELECT exchange, q.name FROM celery.binding b JOIN celery.queue q ON q.id = b.queue_id"


def bound(hand: Hand) -> int:
    """An exchange that deletes itself with its last binding, and two queues, one of them bound."""
    first = hand.queue("first")
    hand.queue("second")
    hand.run(topology.DECLARE_EXCHANGE, "x", "direct", True, True, "{}")
    hand.run(topology.BIND, "x", "k", "first", None)
    return first


def remove_while_another_is_bound(hand: Hand, other: Hand, *calls: Call) -> None:
    """The second queue is bound, and that not yet committed, when the first one's binding goes."""
    other.begin()
    other.run(topology.BIND, "x", "k", "second", None)
    hand.begin()
    *before, locking, removing = calls
    for statement, values in before:
        hand.run(statement, *values)
    locked = hand.later(locking[0], *locking[1])
    other.commit()
    locked.result(10)
    hand.run(removing[0], *removing[1])
    hand.commit()
    assert hand.sql(BINDINGS) == [("x", "second")]


def test_binding_that_is_made_while_the_last_other_one_goes(hand: Hand, other: Hand) -> None:
    """Its exchange stays, and it too."""
    bound(hand)
    unbinding = (topology.UNBIND, ("x", "k", "first"))
    remove_while_another_is_bound(hand, other, (topology.LOCK_EXCHANGE, ("x",)), unbinding)


def test_binding_that_is_made_while_the_last_other_queue_goes(hand: Hand, other: Hand) -> None:
    """The same, where a queue is deleted with its binding."""
    first = bound(hand)
    remove_while_another_is_bound(hand, other, *deletion(first))


def test_exchange_goes_with_its_last_binding(hand: Hand, new_hand: Callable[[], Hand]) -> None:
    bound(hand)
    hand.run(topology.UNBIND, "x", "k", "first")
    assert hand.sql("SELECT FROM celery.exchange WHERE name = 'x'") == []
