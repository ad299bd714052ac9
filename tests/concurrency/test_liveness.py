"""Who is alive, and what becomes of the messages of those that are not."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres import dsn
from celery_postgres.connection import Database
from celery_postgres.liveness import Incarnation, Role, is_live
from celery_postgres.options import Options
from celery_postgres.process import Process, this_process
from celery_postgres.reaper import BEAT_GRACE, RESTART_GRACE, ObservedTime, Reaper, end_sessions
from celery_postgres.sql import consumers, messages
from tests.fixtures.waiting import eventually

from .hand import Hand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_postgres.wire import Call, Session

GRACE_S = 0.2


class Clock:
    """The time that a reaper has seen go by, moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def look(self) -> float:
        return self.now


@pytest.fixture
def new_session(url: str) -> Iterator[Callable[[], Session]]:
    sessions = []

    def make() -> Session:
        session, _ = Database(dsn.parse(url), Options()).open()
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new_reaper(new_session: Callable[[], Session], clock: Clock) -> Callable[..., Reaper]:
    """Makes reapers, each with a session of its own, on the clock of the test."""

    def make(max_deliveries: int = 20) -> Reaper:
        options = Options(grace=GRACE_S, max_deliveries=max_deliveries)
        return Reaper(new_session().run, uuid.uuid4(), options, clock)

    return make


@pytest.fixture
def reaper(new_reaper: Callable[..., Reaper]) -> Reaper:
    return new_reaper()


@pytest.fixture
def queue(hand: Hand) -> int:
    return hand.queue("q")


@pytest.fixture
def ended() -> Process:
    """A process of this host that has ended."""
    here = this_process()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = Process(here.host, child.pid, here.host_id, None)
        assert not process.ended()
        child.kill()
        eventually(process.ended, what="seen as ended before anybody waits for it")
    return process


def end(dead: Hand, watcher: Hand) -> None:
    """End a consumer's session and wait until the server knows it."""
    dead.connection.close()
    eventually(lambda: watcher.value("SELECT pg_try_advisory_xact_lock($1)", dead.lock_key))


def wait_out(reaper: Reaper, clock: Clock, seconds: float = GRACE_S) -> list[int]:
    """Reap just before so many seconds are over, and then."""
    assert reaper.reap_lost() == []
    clock.now += seconds - 0.01
    assert reaper.reap_lost() == []
    clock.now += 0.02
    return reaper.reap_lost()


def wait_out_beat(reaper: Reaper, clock: Clock, seconds: float) -> list[int]:
    """The same for a beat that stands still."""
    assert reaper.reap_silent() == []
    clock.now += seconds - 0.01
    assert reaper.reap_silent() == []
    clock.now += 0.02
    return reaper.reap_silent()


class TestNoSession:
    """Rule A: whose sessions ended and did not return is dead after the grace."""

    def test_messages_of_the_dead_are_ready_again(self, hand, new_hand, reaper, clock, queue) -> None:
        """In their place, as the next delivery of the same message; the dead one is gone."""
        dead = new_hand()
        dead.register()
        hand.publish("q")
        hand.publish("q")
        held = dead.claim(queue)
        end(dead, hand)
        assert wait_out(reaper, clock) == [queue]
        assert hand.ready() == [id_ for id_, _ in held]
        assert hand.count("consumer") == 0
        hand.register()
        assert hand.claim(queue) == [(id_, 2) for id_, _ in held]

    def test_who_comes_back_within_the_grace_is_spared(self, hand, new_hand, reaper, clock, queue) -> None:
        """A live consumer whose session was cut takes its lock again, and is safe for as long as before."""
        cut = new_hand()
        cut.register()
        hand.publish("q")
        held = cut.claim(queue)
        end(cut, hand)
        assert reaper.reap_lost() == []
        clock.now += GRACE_S - 0.01
        back = new_hand()
        back.run(consumers.HOLD, cut.lock_key)
        clock.now += 0.02
        assert reaper.reap_lost() == []
        assert hand.unacked() == held
        back.connection.close()
        end(cut, hand)
        assert wait_out(reaper, clock) == [queue]

    def test_one_session_is_enough(self, hand, new_hand, reaper, clock, queue) -> None:
        """Who lost one of its two is not even missed, however long."""
        cut, beating = new_hand(), new_hand()
        cut.register()
        beating.run(consumers.HOLD, cut.beat_key)
        hand.publish("q")
        held = cut.claim(queue)
        end(cut, hand)
        assert reaper.reap_lost() == []
        assert not reaper.suspects
        clock.now += 100 * GRACE_S
        assert reaper.reap_lost() == []
        hand.run(consumers.REAP, cut.id, 20, None)
        assert hand.unacked() == held

    def test_grace_begins_when_the_reaper_first_looks(self, hand, new_hand, new_reaper, queue) -> None:
        """Not at some time that a clock of somebody else gives."""
        dead = new_hand()
        dead.register()
        hand.sql(
            "UPDATE celery.consumer SET beat_at = now() - interval '1 h', started_at = now() - interval '1 h'"
        )
        hand.publish("q")
        dead.claim(queue)
        end(dead, hand)
        assert new_reaper().reap_lost() == []
        assert hand.count("unacked") == 1

    def test_grace_begins_anew_for_who_takes_over(self, hand, new_hand, reaper, clock, queue) -> None:
        """What it saw when it last swept is of no value: the missing one may have been here since."""
        dead = new_hand()
        dead.register()
        hand.publish("q")
        dead.claim(queue)
        end(dead, hand)
        assert reaper.reap_lost() == []
        clock.now += 100
        reaper.begin()
        assert wait_out(reaper, clock) == [queue]

    def test_gap_in_looking_is_no_time(self, hand, new_hand, new_session, queue) -> None:
        """A reaper that was stopped for long has seen nothing go by meanwhile."""
        now = 0.0
        time = ObservedTime(lambda: now)
        time.look()
        now = 3600.0
        assert time.look() <= 10
        now += 1
        assert time.look() <= 11

    def test_process_that_has_ended_gets_no_grace(self, hand, new_hand, reaper, ended, queue) -> None:
        """On the same host it can be seen that it will not return."""
        dead = new_hand()
        dead.register(process=ended)
        hand.publish("q")
        dead.claim(queue)
        assert reaper.reap_lost() == []
        end(dead, hand)
        assert reaper.reap_lost() == [queue]

    def test_process_that_runs_gets_the_grace(self, hand, new_hand, reaper, clock, queue) -> None:
        """It is alive, and has only lost its sessions."""
        dead = new_hand()
        dead.register(process=this_process())
        hand.publish("q")
        dead.claim(queue)
        end(dead, hand)
        assert wait_out(reaper, clock) == [queue]

    def test_other_process_of_the_same_id(self, hand, new_hand, reaper, queue) -> None:
        """A process id that was given to somebody else meanwhile deceives nobody."""
        here = this_process()
        dead = new_hand()
        dead.register(process=Process(here.host, here.pid, here.host_id, (here.started or 0) + 1))
        hand.publish("q")
        dead.claim(queue)
        end(dead, hand)
        assert reaper.reap_lost() == [queue]

    def test_process_out_of_sight_gets_the_grace(self, hand, new_hand, reaper, clock, ended, queue) -> None:
        """The same process id on another host, in another container or after a reboot is another process."""
        dead = new_hand()
        dead.register(process=Process(ended.host, ended.pid, "another boot", None))
        hand.publish("q")
        dead.claim(queue)
        end(dead, hand)
        assert wait_out(reaper, clock) == [queue]

    def test_who_was_followed_gets_no_grace(self, hand, new_hand, reaper, queue) -> None:
        """A worker that starts under the name of another, on a host of its name, has taken its place."""
        dead, successor = new_hand(), new_hand()
        dead.register(process=Process("web1", 1, "container 1"), node="celery@web1")
        hand.publish("q")
        dead.claim(queue)
        end(dead, hand)
        successor.register(process=Process("web1", 1, "container 2"), node="celery@web1")
        assert reaper.reap_lost() == [queue]

    @pytest.mark.parametrize(
        ("host", "node", "host_id"),
        [("web2", "celery@web1", "c2"), ("web1", "other@web1", "c2"), ("web1", "celery@web1", "c1")],
        ids=["of another host", "of another name", "another connection of the same process"],
    )
    def test_who_was_not_followed_gets_it(
        self, hand, new_hand, reaper, clock, queue, host, node, host_id
    ) -> None:
        """It has to be the same name, of the same host, in another process."""
        dead, other = new_hand(), new_hand()
        dead.register(process=Process("web1", 1, "c1"), node="celery@web1")
        hand.publish("q")
        dead.claim(queue)
        end(dead, hand)
        other.register(process=Process(host, 1, host_id), node=node)
        assert wait_out(reaper, clock) == [queue]

    def test_successor_has_to_be_there(self, hand, new_hand, reaper, clock, queue) -> None:
        """Who lost its sessions at the same time says nothing about the other."""
        dead, successor = new_hand(), new_hand()
        dead.register(process=Process("web1", 1, "c1"), node="celery@web1")
        hand.publish("q")
        dead.claim(queue)
        successor.register(process=Process("web1", 1, "c2"), node="celery@web1")
        for lost in (dead, successor):
            end(lost, hand)
        assert wait_out(reaper, clock) == [queue]

    def test_successor_may_be_who_sweeps(self, hand, new_hand, new_session, clock, queue) -> None:
        """The restarted worker itself gives back what it held before."""
        dead = new_hand()
        dead.register(process=Process("web1", 1, "c1"), node="celery@web1")
        hand.publish("q")
        dead.claim(queue)
        end(dead, hand)
        successor, session = Incarnation(Role("celery@web1", "prefork")), new_session()
        session.run(*successor.register(pooled=False))
        hand.sql("UPDATE celery.consumer SET host = 'web1' WHERE id = $1", successor.id)
        assert Reaper(session.run, successor.id, Options(), clock).reap_lost() == [queue]

    def test_consumer_of_the_release_before(self, hand, new_hand, reaper, clock, queue) -> None:
        """It has no second lock and knows of no life of the server: its one lock and the grace decide."""
        old = new_hand()
        old.sql(
            "INSERT INTO celery.consumer (id, lock_key, pooled, host, pid) VALUES ($1, $2, false, 'x', 1)",
            old.id,
            old.lock_key,
        )
        old.run(consumers.HOLD, old.lock_key)
        hand.publish("q")
        old.claim(queue)
        assert reaper.reap_lost() == []
        end(old, hand)
        assert wait_out(reaper, clock) == [queue]


class TestRestartOfTheServer:
    """Rule B: all sessions ended with it, so their locks prove nothing."""

    @pytest.fixture(params=["restarted", "crashed"])
    def lost(self, request, hand, new_hand, queue) -> Hand:
        """A consumer of an earlier life of the server."""
        cut = new_hand()
        cut.register()
        hand.publish("q")
        cut.claim(queue)
        end(cut, hand)
        if request.param == "restarted":
            hand.sql("UPDATE celery.epoch SET server_started_at = server_started_at - interval '1 s'")
        else:
            hand.sql("TRUNCATE celery.epoch")
        return cut

    def test_everybody_gets_thirty_seconds(self, lost, reaper, clock, queue) -> None:
        """From the first look of whoever reaps, whether others are back already or not."""
        assert wait_out(reaper, clock, RESTART_GRACE) == [queue]

    def test_also_when_others_are_back(self, lost, new_hand, reaper, clock, queue) -> None:
        """They begin the new life; it is the missing one's that counts."""
        new_hand().register()
        assert wait_out(reaper, clock, RESTART_GRACE) == [queue]

    def test_who_resumed_and_vanishes_gets_the_usual_grace(
        self, lost, hand, new_session, reaper, clock, queue
    ) -> None:
        """It is of the new life then."""
        session = new_session()
        incarnation = Incarnation()
        incarnation.id, incarnation.lock_key = lost.id, lost.lock_key
        assert incarnation.resumed(session.run(*incarnation.resume(lost.lock_key, [], pooled=False))).known
        clock.now += RESTART_GRACE
        assert reaper.reap_lost() == []
        session.close()
        end(lost, hand)
        assert wait_out(reaper, clock) == [queue]

    def test_process_that_has_ended_gets_no_grace(self, hand, new_hand, reaper, ended, queue) -> None:
        """It was killed while the server was away, or is seen to be gone now."""
        dead = new_hand()
        dead.register(process=ended)
        hand.publish("q")
        dead.claim(queue)
        end(dead, hand)
        hand.sql("TRUNCATE celery.epoch")
        assert reaper.reap_lost() == [queue]

    def test_life_is_named_once(self, hand, new_hand) -> None:
        """Whoever comes first after a start gives it its name, and all others take that."""
        hand.register()
        first = hand.value("SELECT id FROM celery.epoch")
        new_hand().register()
        assert hand.sql("SELECT id FROM celery.epoch") == [(first,)]
        assert hand.sql("SELECT DISTINCT epoch FROM celery.consumer") == [(first,)]
        hand.sql("UPDATE celery.epoch SET server_started_at = server_started_at - interval '1 s'")
        new_hand().register()
        assert hand.value("SELECT id FROM celery.epoch") != first
        assert hand.count("epoch") == 1


class TestStandstill:
    """Rule C: who holds its lock and does not beat is fenced after its `stall_timeout`."""

    STALL_S = 5.0

    @pytest.fixture
    def stalled(self, hand, new_hand, queue) -> Hand:
        """One that has beaten, and holds a message."""
        stalled = new_hand()
        stalled.register(stall_s=self.STALL_S)
        assert stalled.beat()
        hand.publish("q")
        stalled.claim(queue)
        return stalled

    def test_is_fenced(self, stalled, hand, reaper, clock, queue, caplog) -> None:
        """Its messages return, its session ends, and the log says why."""
        assert wait_out_beat(reaper, clock, self.STALL_S) == [queue]
        assert len(hand.ready()) == 1
        with pytest.raises(psycopg.OperationalError):
            eventually(lambda: stalled.sql("SELECT 1") == [])
        assert f"it stands still: no beat within {self.STALL_S:g} s" in caplog.text

    def test_can_do_nothing_any_more(self, stalled, hand, new_hand, reaper, clock, queue) -> None:
        """What it claims is nothing, its acknowledgement changes nothing, its beat tells it so."""
        ((message, delivery),) = hand.unacked()
        late = new_hand()
        late.id = stalled.id
        wait_out_beat(reaper, clock, self.STALL_S)
        assert not late.beat()
        assert late.claim(queue) == []
        hand.register()
        again = hand.claim(queue)
        late.ack([(message, delivery)])
        late.ack([(message, delivery + 1)])
        assert hand.unacked() == again == [(message, delivery + 1)]

    def test_beat_that_moves_again(self, stalled, hand, reaper, clock) -> None:
        """It is spared, and the time begins anew, also when the beat comes in the last moment."""
        for _ in range(3):
            assert reaper.reap_silent() == []
            clock.now += self.STALL_S - 0.01
            assert stalled.beat()
        assert reaper.reap_silent() == []
        hand.run(consumers.REAP, stalled.id, 20, 0)
        assert hand.count("unacked") == 1

    def test_clocks_do_not_matter(self, stalled, hand, reaper, clock) -> None:
        """However old the beat is by the server's clock, or how far ahead: it is a number that changes."""
        for offset in ("-1 day", "1 day"):
            hand.sql(f"UPDATE celery.consumer SET beat_at = now() + interval '{offset}'")
            assert reaper.reap_silent() == []
            clock.now += self.STALL_S - 0.01

    def test_who_never_beats_is_not_expected_to(self, hand, new_hand, reaper, clock, queue) -> None:
        """A monitor has one session and no thread."""
        new_hand().register(stall_s=self.STALL_S)
        assert reaper.reap_silent() == []
        clock.now += 100 * self.STALL_S
        assert reaper.reap_silent() == []
        assert hand.count("consumer") == 1

    def test_own_consumer_is_not_judged(self, stalled, new_session, clock) -> None:
        """Nobody fences itself, or takes its own locks for free ones."""
        session = new_session()
        mine = Reaper(session.run, stalled.id, Options(grace=GRACE_S), clock)
        stalled.connection.close()
        for reap in (mine.reap_lost, mine.reap_silent):
            assert reap() == []
            clock.now += 1000
            assert reap() == []

    def test_sweeping_alone_can_be_taken_away(self, stalled, hand, new_hand, new_session) -> None:
        """The session that beats ends; the one that claims, and the messages, stay."""
        beating = new_hand()
        beating.run(consumers.HOLD, stalled.beat_key)
        end_sessions(new_session().run, stalled.id, of_the_beat_alone=True)
        with pytest.raises(psycopg.OperationalError):
            eventually(lambda: beating.sql("SELECT 1") == [])
        assert stalled.beat()
        assert hand.count("unacked") == 1


def test_live_consumer_that_is_busy_keeps_its_messages(hand, new_hand, reaper, clock, queue) -> None:
    """A task that lasts a day is not given to anybody else: its worker's thread beats meanwhile."""
    busy = new_hand()
    busy.register(stall_s=60)
    hand.publish("q")
    held = busy.claim(queue)
    for _ in range(24 * 60):
        assert busy.beat()
        assert reaper.reap_silent() == reaper.reap_lost() == []
        clock.now += 60 - 0.01
    assert hand.unacked() == held


class TestPooler:
    """Rule D: behind a transaction pooler nobody holds a lock, so the beat alone decides."""

    def test_beat_decides(self, hand, other, reaper, clock, queue) -> None:
        """Thirty seconds after the last one that was seen."""
        other.register(pooled=True)
        hand.publish("q")
        other.claim(queue)
        clock.now += 100
        assert reaper.reap_lost() == []
        assert wait_out_beat(reaper, clock, BEAT_GRACE) == [queue]

    def test_process_that_has_ended(self, hand, other, reaper, clock, ended, queue) -> None:
        """On the same host it is known sooner: what it sent last has had a grace to arrive."""
        other.register(pooled=True, process=ended)
        hand.publish("q")
        other.claim(queue)
        assert wait_out_beat(reaper, clock, GRACE_S) == [queue]


class TestManyAtOnce:
    """More than half of all within ten seconds is a network rather than so many deaths."""

    @pytest.fixture
    def workers(self, new_hand) -> list[Hand]:
        workers = [new_hand() for _ in range(4)]
        for worker in workers:
            worker.register()
        return workers

    def test_get_longer(self, hand, workers, reaper, clock, queue, caplog) -> None:
        """All of them; who does not return is dead then, and the log has told of it."""
        for _ in workers:
            hand.publish("q")
        for worker in workers[:3]:
            worker.claim(queue, count=1)
        assert reaper.reap_silent() == []
        for worker in workers[:3]:
            end(worker, hand)
        assert reaper.reap_lost() == []
        assert "3 of 5 consumers lost their sessions" in caplog.text
        clock.now += GRACE_S + 4.9
        assert reaper.reap_lost() == []
        clock.now += 0.2
        assert reaper.reap_lost() == [queue] * 3

    def test_fewer_do_not(self, hand, workers, reaper, clock, queue) -> None:
        """Two of five may well have died."""
        assert reaper.reap_silent() == []
        for worker in workers[:2]:
            end(worker, hand)
        assert wait_out(reaper, clock) == []
        assert hand.count("consumer") == 2

    def test_those_that_have_ended_do_not(self, hand, new_hand, reaper, ended) -> None:
        """Where the processes are seen to be gone, there is no doubt."""
        workers = [new_hand() for _ in range(4)]
        for worker in workers:
            worker.register(process=ended)
        reaper.reap_silent()
        for worker in workers:
            end(worker, hand)
        reaper.reap_lost()
        assert hand.count("consumer") == 0


class TestTakingOver:
    """Whether an exclusive queue may be taken over, such as that of a worker's remote control."""

    def test_from_the_living(self, hand, new_hand, new_session) -> None:
        """Not from who holds its lock, or beats behind a pooler."""
        direct, pooled = new_hand(), new_hand()
        direct.register(process=this_process())
        pooled.register(pooled=True)
        run = new_session().run
        assert is_live(run, direct.id)
        assert is_live(run, pooled.id)

    def test_from_the_dead(self, hand, new_hand, new_session, ended) -> None:
        """At once, also if the server has not noticed its end, or cannot."""
        direct, pooled, gone = new_hand(), new_hand(), new_hand()
        direct.register(process=ended)
        pooled.register(pooled=True, process=ended)
        gone.register()
        end(gone, hand)
        run = new_session().run
        for dead in (direct, pooled, gone):
            assert not is_live(run, dead.id)


class TestResuming:
    """A new session takes the place of a lost one, for the same incarnation."""

    def register(self, session: Session) -> Incarnation:
        incarnation = Incarnation()
        session.run(*incarnation.register(pooled=False))
        self.backend_pid = session.backend_pid
        return incarnation

    def resume(self, incarnation: Incarnation) -> list[Call]:
        return incarnation.resume(incarnation.lock_key, [self.backend_pid], pooled=False)

    def test_old_session_is_ended(self, hand, new_session, reaper, clock) -> None:
        """Nothing that it still has to say is heard after that, and the lock is the new one's."""
        old, new = new_session(), new_session()
        incarnation = self.register(old)
        results = new.run(*self.resume(incarnation))
        assert incarnation.resumed(results).known
        eventually(lambda: not old.alive())
        assert reaper.reap_lost() == []
        assert is_live(new_session().run, incarnation.id)

    def test_lost_without_a_word(self, new_session) -> None:
        """Where the server knows of the end already, there is nothing to end."""
        old, new = new_session(), new_session()
        incarnation = self.register(old)
        old.close()
        assert incarnation.resumed(new.run(*self.resume(incarnation))).known

    def test_who_only_looks_is_left_alone(self, hand, new_session) -> None:
        """A reaper's look or grip at the key is not our old session."""
        old, new = new_session(), new_session()
        incarnation = self.register(old)
        old.close()
        eventually(lambda: hand.value("SELECT pg_try_advisory_xact_lock($1)", incarnation.lock_key))
        hand.begin()
        hand.sql("SELECT pg_advisory_xact_lock_shared($1)", incarnation.lock_key)
        batch = new.send(self.resume(incarnation))
        hand.commit()
        assert incarnation.resumed(new.wait(batch, 10)).known

    def test_too_late(self, hand, new_session, reaper, clock) -> None:
        """Who was declared dead meanwhile is told."""
        old, new = new_session(), new_session()
        incarnation = self.register(old)
        old.close()
        eventually(lambda: hand.value("SELECT pg_try_advisory_xact_lock($1)", incarnation.lock_key))
        reaper.reap_lost()
        clock.now += GRACE_S
        reaper.reap_lost()
        assert not incarnation.resumed(new.run(*self.resume(incarnation))).known
        assert not is_live(new.run, incarnation.id)

    def test_reaper_and_who_resumes(self, hand, new_hand, new_session, queue) -> None:
        """Whoever has the lock first wins: the other sees it."""
        old, new = new_session(), new_session()
        incarnation = self.register(old)
        old.close()
        eventually(lambda: hand.value("SELECT pg_try_advisory_xact_lock($1)", incarnation.lock_key))
        hand.begin()
        hand.run(consumers.REAP, incarnation.id, 20, None)
        batch = new.send(self.resume(incarnation))
        hand.commit()
        assert not incarnation.resumed(new.wait(batch, 10)).known
        incarnation = self.register(new)
        hand.run(consumers.REAP, incarnation.id, 20, None)
        assert is_live(new_session().run, incarnation.id)


def test_two_reapers_release_once(hand, new_hand, new_reaper, clock, queue) -> None:
    """Both see the dead one; one of them gives its messages back."""
    dead = new_hand()
    dead.register()
    for _ in range(20):
        hand.publish("q")
    dead.claim(queue, count=20)
    end(dead, hand)
    reapers = [new_reaper(), new_reaper()]
    for reaper in reapers:
        reaper.reap_lost()
    clock.now += GRACE_S
    freed: list[list[int]] = []
    threads = [threading.Thread(target=lambda r=reaper: freed.append(r.reap_lost())) for reaper in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(freed) == [[], [queue]]
    assert len(hand.ready()) == 20


def test_too_many_deliveries_end_in_dead_letter(hand, new_hand, new_reaper, clock, queue) -> None:
    """What kills its consumers is put aside, with its payload; the rest returns."""
    hand.publish("q")
    hand.publish("q")
    hand.sql("UPDATE celery.ready SET deliveries = 1 WHERE message_id = $1", hand.ready()[0])
    dead = new_hand()
    dead.register()
    (poison, _), (good, _) = dead.claim(queue)
    end(dead, hand)
    wait_out(new_reaper(max_deliveries=2), clock)
    assert hand.sql("SELECT message_id, reason, deliveries FROM celery.dead_letter") == [
        (poison, "max_deliveries", 2)
    ]
    assert hand.ready() == [good]
    assert hand.count("message") == 2


class TestOrphans:
    """A claim that commits after its consumer was declared dead."""

    def test_returns(self, hand, other, reaper, clock, queue) -> None:
        """It belongs to nobody, and comes back as soon as it is old enough."""
        other.register(pooled=True)
        hand.publish("q")
        other.begin()
        held = other.claim(queue)
        wait_out_beat(reaper, clock, BEAT_GRACE)
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
        for (dead,) in mine.sql("UPDATE celery.consumer SET beat_at = '2000-01-01 UTC' RETURNING id"):
            mine.run(consumers.REAP, dead, 0, 0)
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
