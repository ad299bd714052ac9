"""Who is alive, and what becomes of the messages of those that are not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from celery_postgres import dsn
from celery_postgres.connection import Database
from celery_postgres.liveness import Reaper
from celery_postgres.options import Options
from celery_postgres.sql import consumers, messages
from tests.fixtures.waiting import eventually

from .hand import Hand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRACE_S = 0.2


@pytest.fixture
def new_reaper(url: str) -> Iterator[Callable[[], Reaper]]:
    """Makes reapers, each with a session of its own."""
    sessions = []

    def make(max_deliveries: int = 20) -> Reaper:
        session, _ = Database(dsn.parse(url), Options()).open()
        sessions.append(session)
        return Reaper(session.run, grace=GRACE_S, max_deliveries=max_deliveries)

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def reaper(new_reaper: Callable[[], Reaper]) -> Reaper:
    return new_reaper()


@pytest.fixture
def queue(hand: Hand) -> int:
    return hand.queue("q")


def lock_key(hand: Hand) -> int:
    return int.from_bytes(hand.id.bytes[:8], "big", signed=True)


def end(dead: Hand, watcher: Hand) -> None:
    """End a consumer's session and wait until the server knows it."""
    dead.connection.close()
    eventually(lambda: watcher.value("SELECT pg_try_advisory_xact_lock($1)", lock_key(dead)))


def wait_out(reaper: Reaper) -> list[int]:
    """Reap until the grace is over."""
    assert reaper.reap() == []
    threading.Event().wait(GRACE_S + 0.05)
    return reaper.reap()


def test_messages_of_the_dead_are_ready_again(hand, new_hand, reaper, queue) -> None:
    """In their place, as the next delivery of the same message; the dead one is gone."""
    dead = new_hand()
    dead.register()
    hand.publish("q")
    hand.publish("q")
    held = dead.claim(queue)
    end(dead, hand)
    assert wait_out(reaper) == [queue]
    assert hand.ready() == [id_ for id_, _ in held]
    assert hand.count("consumer") == 0
    hand.register()
    assert hand.claim(queue) == [(id_, 2) for id_, _ in held]


def test_who_comes_back_within_the_grace_is_spared(hand, new_hand, reaper, queue) -> None:
    """A live consumer whose session was cut takes its lock again."""
    cut = new_hand()
    cut.register()
    hand.publish("q")
    held = cut.claim(queue)
    end(cut, hand)
    assert reaper.reap() == []
    back = new_hand()
    back.run(consumers.HOLD, lock_key(cut))
    threading.Event().wait(GRACE_S + 0.05)
    assert reaper.reap() == []
    assert hand.unacked() == held
    back.connection.close()
    end(cut, hand)
    assert wait_out(reaper) == [queue]


def test_grace_begins_when_the_reaper_first_looks(hand, new_hand, new_reaper, queue) -> None:
    """Not at some time that a clock of somebody else gives."""
    dead = new_hand()
    dead.register()
    hand.sql(
        "UPDATE celery.consumer SET beat_at = now() - interval '1 h', started_at = now() - interval '1 h'"
    )
    hand.publish("q")
    dead.claim(queue)
    end(dead, hand)
    assert new_reaper().reap() == []
    assert hand.count("unacked") == 1


def test_live_consumer_that_does_not_beat_keeps_its_messages(hand, new_hand, reaper, queue) -> None:
    """A task that lasts a day is not given to anybody else."""
    busy = new_hand()
    busy.register()
    hand.sql("UPDATE celery.consumer SET beat_at = now() - interval '1 day'")
    hand.publish("q")
    held = busy.claim(queue)
    assert wait_out(reaper) == []
    assert hand.unacked() == held


def test_behind_a_pooler_the_beat_decides(hand, other, reaper, queue) -> None:
    """Nobody holds a lock there."""
    other.register(pooled=True)
    hand.publish("q")
    other.claim(queue)
    assert wait_out(reaper) == []
    hand.sql("UPDATE celery.consumer SET beat_at = now() - interval '31 s'")
    assert wait_out(reaper) == [queue]


def test_two_reapers_release_once(hand, new_hand, new_reaper, queue) -> None:
    """Both see the dead one; one of them gives its messages back."""
    dead = new_hand()
    dead.register()
    for _ in range(20):
        hand.publish("q")
    dead.claim(queue, count=20)
    end(dead, hand)
    reapers = [new_reaper(), new_reaper()]
    for reaper in reapers:
        reaper.reap()
    threading.Event().wait(GRACE_S + 0.05)
    freed: list[list[int]] = []
    threads = [threading.Thread(target=lambda r=reaper: freed.append(r.reap())) for reaper in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(freed) == [[], [queue]]
    assert len(hand.ready()) == 20


def test_too_many_deliveries_end_in_dead_letter(hand, new_hand, new_reaper, queue) -> None:
    """What kills its consumers is put aside, with its payload; the rest returns."""
    hand.publish("q")
    hand.publish("q")
    hand.sql("UPDATE celery.ready SET deliveries = 1 WHERE message_id = $1", hand.ready()[0])
    dead = new_hand()
    dead.register()
    (poison, _), (good, _) = dead.claim(queue)
    end(dead, hand)
    wait_out(new_reaper(max_deliveries=2))
    assert hand.sql("SELECT message_id, reason, deliveries FROM celery.dead_letter") == [
        (poison, "max_deliveries", 2)
    ]
    assert hand.ready() == [good]
    assert hand.count("message") == 2


class TestOrphans:
    """A claim that commits after its consumer was declared dead."""

    def test_returns(self, hand, other, reaper, queue) -> None:
        """It belongs to nobody, and comes back as soon as it is old enough."""
        other.register(pooled=True)
        hand.publish("q")
        other.begin()
        held = other.claim(queue)
        hand.sql("UPDATE celery.consumer SET beat_at = now() - interval '31 s'")
        wait_out(reaper)
        other.commit()
        assert hand.unacked() == held
        assert reaper.release_orphans() == []
        hand.sql("UPDATE celery.unacked SET claimed_at = now() - interval '10 s'")
        assert reaper.release_orphans() == [queue]
        assert hand.ready() == [id_ for id_, _ in held]

    def test_of_the_living_stay(self, hand, other, reaper, queue) -> None:
        """However old the claims are, and whoever else is gone."""
        for hand_ in (hand, other):
            hand_.register()
            hand.publish("q")
            hand_.claim(queue)
        hand.sql("UPDATE celery.unacked SET claimed_at = now() - interval '1 day'")
        hand.sql("DELETE FROM celery.consumer WHERE id = $1", other.id)
        assert reaper.release_orphans() == [queue]
        assert hand.value("SELECT consumer_id FROM celery.unacked") == hand.id


def test_acknowledging_against_reaping_never_deadlocks(url, hand, queue) -> None:
    """Consumers that are slow behind a pooler settle in any order while they are reaped."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def guarded(work: Callable[[Hand], None]) -> threading.Thread:
        def run() -> None:
            try:
                with Hand(url) as mine:
                    while not stop.is_set():
                        work(mine)
            except BaseException as error:  # noqa: BLE001 - reported by the test
                errors.append(error)

        return threading.Thread(target=run)

    def consume(mine: Hand) -> None:
        mine.register(pooled=True)
        held = mine.claim(queue, count=50)
        mine.release(held[::-1][:20])
        mine.ack(held[::-1])
        mine.ack(held)

    def reap(mine: Hand) -> None:
        mine.sql("UPDATE celery.consumer SET beat_at = now() - interval '1 h'")
        for (dead,) in mine.sql("SELECT id FROM celery.consumer"):
            mine.run(consumers.REAP, dead, 0)
        mine.run(consumers.RELEASE_ORPHANS, 0.0)

    def publish(mine: Hand) -> None:
        for _ in range(20):
            mine.publish("q")
        mine.run(messages.PROMOTE, 100)

    before = hand.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    threads = [guarded(work) for work in (consume, consume, consume, reap, reap, publish)]
    for thread in threads:
        thread.start()
    stop.wait(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    hand.sql("SELECT pg_stat_force_next_flush()")
    after = hand.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert after == before
    states = "SELECT message_id FROM celery.ready UNION ALL SELECT message_id FROM celery.unacked"
    assert hand.value(f"SELECT count(*) FROM celery.message WHERE id NOT IN ({states})") == 0
