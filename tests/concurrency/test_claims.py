"""Several sessions claim at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from .hand import Hand


@pytest.fixture
def queue(hand: Hand) -> int:
    return hand.queue("q")


def test_no_message_goes_to_two_claimers(url, hand, queue) -> None:
    """Eight sessions empty a queue together: each message is held once, and none is left."""
    hand.sql(
        """INSERT INTO celery.message (uuid, queue_id, priority, exchange, routing_key, headers, properties,
                                         body)
           SELECT gen_random_uuid(), $1, n % 3, '', 'q', '{}', '{}', '' FROM generate_series(1, 2000) n""",
        queue,
    )
    hand.sql("INSERT INTO celery.ready SELECT queue_id, priority, id, 0 FROM celery.message")
    start = threading.Barrier(8)

    def empty(number: int) -> list[int]:
        taken: list[int] = []
        with Hand(url) as claimer:
            claimer.register()
            start.wait()
            while held := claimer.claim(queue, count=1 + number):
                taken += [id_ for id_, _ in held]
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [id_ for ids in pool.map(empty, range(8)) for id_ in ids]
    assert len(taken) == len(set(taken)) == 2000
    assert hand.count("unacked") == 2000


def test_claim_passes_over_what_another_one_claims(new_hand, hand, queue) -> None:
    """A claim that is under way blocks nobody, and what it gives up can be claimed again."""
    first, second = new_hand(), new_hand()
    for claimer in (first, second):
        claimer.register()
    for _ in range(5):
        hand.publish("q")
    ready = hand.ready()
    first.begin()
    taken = first.claim(queue, count=3)
    second.sql("SET statement_timeout = '2s'")
    assert [id_ for id_, _ in second.claim(queue, count=3)] == ready[3:]
    first.rollback()
    assert second.claim(queue, count=3) == taken


def test_lower_id_that_becomes_visible_later_is_claimed(hand, other, queue) -> None:
    """A publisher that began first and commits last is not overlooked."""
    hand.register()
    other.begin()
    other.publish("q")
    hand.publish("q")
    ((later, _),) = hand.claim(queue)
    other.commit()
    ((earlier, _),) = hand.claim(queue)
    assert earlier < later


def test_claim_takes_from_each_queue_by_priority(hand, queue) -> None:
    """The highest priority first, in the order of the queues that the caller gives."""
    hand.register()
    second = hand.queue("r")
    for priority in (0, 5, 9):
        hand.publish("q", priority=priority)
        hand.publish("r", priority=priority)
    (first,) = hand.claim(second, queue, count=1)
    names = dict(hand.sql("SELECT id, routing_key || priority FROM celery.message"))
    assert names[first[0]] == "r9"
    assert [names[id_] for id_, _ in hand.claim(queue, second, count=2)] == ["q5", "q9"]


def test_who_was_declared_dead_claims_nothing(hand, other, queue) -> None:
    """The guard of the claim: without a row in `consumer` there is nothing to take."""
    hand.publish("q")
    other.register()
    hand.sql("DELETE FROM celery.consumer WHERE id = $1", other.id)
    assert other.claim(queue) == []
    assert len(hand.ready()) == 1


def test_message_may_be_given_back_any_number_of_times(hand, queue) -> None:
    """A delivery number beyond 32,767 does not stop the queue."""
    hand.register()
    hand.publish("q")
    hand.sql("UPDATE celery.ready SET deliveries = 32767")
    held = hand.claim(queue)
    assert [number for _, number in held] == [32768]
    hand.ack(held)
    assert hand.count("message") == 0
