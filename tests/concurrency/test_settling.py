"""What a consumer says about a delivery holds for that delivery alone."""

from __future__ import annotations

import pytest

from celery_postgres.sql import consumers

from .hand import Hand, Held

SETTLE = [Hand.ack, Hand.release, Hand.reject]


@pytest.fixture
def queue(hand: Hand) -> int:
    return hand.queue("q")


@pytest.fixture
def held(hand: Hand, queue: int) -> Held:
    """A message that `hand` holds for the second time."""
    hand.register()
    hand.publish("q")
    hand.release(hand.claim(queue))
    held = hand.claim(queue)
    assert [number for _, number in held] == [2]
    return held


@pytest.mark.parametrize("settle", SETTLE)
class TestStale:
    """Too late, or not one's own: nothing changes."""

    def test_of_an_earlier_delivery(self, hand, held, settle) -> None:
        """The delivery number is part of the match."""
        settle(hand, [(held[0][0], 1)])
        assert hand.unacked() == held

    def test_of_another_consumer(self, hand, other, held, settle) -> None:
        """Only the holder settles."""
        other.register()
        settle(other, held)
        assert hand.unacked() == held

    def test_after_the_consumer_was_reaped(self, hand, other, held, settle, queue) -> None:
        """What was given to somebody else in the meantime stays with that one."""
        dead = hand.id
        other.sql("UPDATE celery.consumer SET lock_key = 2")  # that of a session that is gone
        other.run(consumers.REAP, dead, 20, None)
        other.register()
        again = other.claim(queue)
        assert again == [(held[0][0], 3)]
        settle(hand, held)
        settle(hand, again)
        assert hand.unacked() == again
        assert hand.count("dead_letter") == 0

    def test_beside_a_good_one(self, hand, held, settle, queue) -> None:
        """One that comes too late does not keep the others of its batch from being settled."""
        hand.publish("q")
        (good,) = hand.claim(queue)
        settle(hand, [(held[0][0], 1), good])
        assert hand.unacked() == held


def test_ack_removes_message_and_claim(hand, held) -> None:
    """Nothing of it stays."""
    hand.ack(held)
    assert (hand.count("unacked"), hand.count("message"), hand.count("ready")) == (0, 0, 0)


def test_release_keeps_the_place(hand, held, queue) -> None:
    """Before later messages of its priority, after higher ones, as the next delivery of the same message."""
    hand.publish("q")
    hand.publish("q", priority=5)
    hand.release(held)
    ready = hand.ready()
    assert ready.index(held[0][0]) == 1
    assert (held[0][0], 3) in hand.claim(queue)


def test_reject_keeps_the_payload_for_people(hand, held) -> None:
    """In `dead_letter`, with the reason and the number of deliveries."""
    hand.reject(held)
    assert hand.sql("SELECT message_id, queue, reason, deliveries FROM celery.dead_letter") == [
        (held[0][0], "q", "rejected", 2)
    ]
    assert hand.count("message") == 1
