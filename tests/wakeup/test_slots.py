"""A bell wakes a few of many who wait, and what it announces is found all the same."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from contextlib import suppress

import psycopg
import pytest

from celery_postgres.wakeup import WOKEN, Bell
from tests.fixtures.waiting import PATIENCE_S, eventually

from .test_wakeup import NEVER

pytestmark = pytest.mark.ours("how our consumers are woken")

MANY = 6
#: Fewer are woken all of them.
SOME = WOKEN + 1
IN_SLOTS = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2
   AND mode = 'ExclusiveLock' AND granted AND objid > 0
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


@pytest.fixture
def in_slots(fresh_broker):
    """How many consumers are in a slot."""
    with psycopg.connect(fresh_broker.url, autocommit=True) as connection:
        yield lambda: connection.execute(IN_SLOTS).fetchone()[0]


def take_from_any(sleepers, count, timeout_s=PATIENCE_S):
    """So many bodies, whoever gets them, with how many each one got."""
    taken, by_whom = [], Counter()
    deadline = time.monotonic() + timeout_s
    while len(taken) < count:
        assert time.monotonic() < deadline, f"only {taken} of {count}"
        for number, sleeper in enumerate(sleepers):
            while not sleeper.received.empty():
                taken.append(sleeper.received.get())
                by_whom[number] += 1
        time.sleep(0.001)
    return taken, by_whom


def crowd(publish, take, in_slots, number):
    """Let so many consumers go into slots: soon after a bell, once they know that they are many."""

    def settled():
        publish("warm up")
        take()
        with suppress(AssertionError):
            eventually(lambda: in_slots() == number, 0.5)
        return in_slots() == number

    eventually(settled, what="all are in slots")


def test_bell_wakes_a_few(new_sleeper, new_publisher, in_slots, heard):
    """Each time others, and nobody who shares a lock with all."""
    sleepers, publish = [new_sleeper(4, **NEVER) for _ in range(MANY)], new_publisher()
    crowd(publish, lambda: take_from_any(sleepers, 1), in_slots, MANY)
    heard()
    channels = Counter()
    for number in range(40):
        publish(number)
        assert take_from_any(sleepers, 1)[0] == [str(number)]
        rung = heard()
        assert len(rung) == WOKEN
        channels.update(rung)
        eventually(lambda: in_slots() == MANY, what="all are in slots again")
    assert Bell("celery").channel not in channels
    assert len(channels) == MANY
    assert min(channels.values()) >= 3, "they take turns"


def test_few_share_one_lock(new_sleeper, new_publisher, in_slots, heard, waiting_together):
    """A bell would wake all of them anyhow."""
    sleepers, publish = [new_sleeper(4, **NEVER) for _ in range(WOKEN)], new_publisher()
    for number in range(20):
        eventually(lambda: waiting_together() == WOKEN, what="both wait")
        publish(number)
        take_from_any(sleepers, 1)
        assert heard() == [Bell("celery").channel]
    assert in_slots() == 0


def test_more_than_the_woken_can_take(new_sleeper, new_publisher, in_slots):
    """They ring for others: one bell brings all that there is to all who can take it."""
    sleepers = [new_sleeper(**NEVER) for _ in range(MANY)]
    publish_silently, publish = new_publisher(notify=False), new_publisher()
    crowd(publish, lambda: take_from_any(sleepers, 1), in_slots, MANY)
    for _ in range(5):
        eventually(lambda: in_slots() == MANY, what="all are in slots")
        for sleeper in sleepers:
            sleeper.may_ack.clear()
        for number in range(MANY - 1):
            publish_silently(number)
        publish("last")
        assert take_from_any(sleepers, MANY)[1] == dict.fromkeys(range(MANY), 1)
        for sleeper in sleepers:
            sleeper.may_ack.set()


def test_many_publishers_and_consumers_always_meet(new_sleeper, new_publisher, in_slots):
    """Consumers go into slots and out of them while publishers commit: no message waits for the poll."""
    sleepers = [new_sleeper(prefetch, **NEVER) for prefetch in (1, 1, 4, 4)]
    publish = [new_publisher() for _ in range(2)]
    crowd(publish[0], lambda: take_from_any(sleepers, 1), in_slots, len(sleepers))
    chance = random.Random(MANY)
    for number in range(150):
        count = chance.choice([1, 1, 2, 12])
        bodies = [f"{number}.{part}" for part in range(count)]
        for body in bodies:
            chance.choice(publish)(body)
        assert sorted(take_from_any(sleepers, count)[0]) == sorted(bodies)
        time.sleep(chance.choice([0, 0.03, 0.2]) * chance.random())


def test_who_is_left_outside_goes_in_again(new_sleeper, new_publisher, in_slots):
    """Whatever has kept it from it: bells are for those who are in, and none would remind it."""
    sleepers, publish = [new_sleeper(4, **NEVER) for _ in range(SOME)], new_publisher()
    crowd(publish, lambda: take_from_any(sleepers, 1), in_slots, SOME)
    intake = sleepers[0].connection.transport.intake
    with intake.session.lock:
        assert intake._idleness.leave(intake.queue_ids)
    eventually(lambda: intake._idleness._slotted and in_slots() == SOME)


def test_loop_that_stands_still_leaves_its_slot(new_sleeper, new_publisher, in_slots):
    """Bells would be lost on it; when it turns again it goes into one again."""
    sleepers, publish = [new_sleeper(4, **NEVER) for _ in range(SOME)], new_publisher()
    crowd(publish, lambda: take_from_any(sleepers, 1), in_slots, SOME)
    intake = sleepers[0].connection.transport.intake
    assert intake.set_aside()
    eventually(lambda: in_slots() == SOME - 1)
    for number in range(10):
        publish(number)
        assert take_from_any(sleepers[1:], 1)[0] == [str(number)]
    intake.take_up()
    crowd(publish, lambda: take_from_any(sleepers, 1), in_slots, SOME)


@pytest.fixture
def workers(site, in_slots):
    """Some idle ones that execute tasks in their loops, in slots."""
    workers = [site.worker("-Q", "celery", pool="solo", broker_transport_options=NEVER) for _ in range(SOME)]
    crowd(
        lambda _: site.record.wait_for_one(site.send("record")),
        lambda: None,
        in_slots,
        SOME,
    )
    return workers


def test_worker_at_work_is_in_no_slot(site, in_slots, tmp_path):
    """Also where it has acknowledged its task already, so that a bell wakes those who are idle."""
    for _ in range(SOME):
        site.worker("-Q", "celery", pool="prefork", task_acks_late=False, broker_transport_options=NEVER)
    crowd(lambda _: site.record.wait_for_one(site.send("record")), lambda: None, in_slots, SOME)
    busy = site.record.wait_for_one(site.send("hold", str(tmp_path / "go"))).hostname
    eventually(lambda: site.broker.unacked() == 0)
    begin = time.monotonic()
    while time.monotonic() - begin < 1:
        assert in_slots() < SOME
    for _ in range(5):
        eventually(lambda: in_slots() == SOME - 1, what="the idle ones are in slots")
        assert site.record.wait_for_one(site.send("record")).hostname != busy
    (tmp_path / "go").touch()
    eventually(lambda: in_slots() == SOME, what="all are in slots again, without a bell")


def test_one_of_the_woken_stands_still(site, workers):
    """There is another."""
    workers[0].send_signal(signal.SIGSTOP)
    try:
        for _ in range(10):
            site.record.wait_for_one(site.send("record"))
            time.sleep(0.05)
    finally:
        workers[0].send_signal(signal.SIGCONT)


def test_long_task_in_the_loop(site, workers, tmp_path):
    """A worker that executes tasks in its loop is woken by no bell meanwhile: the idle ones are."""
    busy = site.record.wait_for_one(site.send("hold", str(tmp_path / "never"))).hostname
    for _ in range(5):
        assert site.record.wait_for_one(site.send("record")).hostname != busy
        time.sleep(0.05)
