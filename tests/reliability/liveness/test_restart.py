"""A new life of the server: every session ended, and whoever was connected is known to be of the old one."""

from __future__ import annotations

import os
import signal
import uuid
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres import dsn, schema
from celery_postgres.connection import Database
from celery_postgres.liveness import Incarnation, Life
from celery_postgres.options import Options
from celery_postgres.reaper import RESTART_GRACE, Reaper
from tests.concurrency.hand import Hand
from tests.concurrency.test_liveness import Clock
from tests.fixtures.standby import execute, new_standby
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_postgres.embedded import EmbeddedPostgres


def restart(server: EmbeddedPostgres) -> None:
    server.restart()


def crash(server: EmbeddedPostgres) -> None:
    server.crash()
    server.start()


def kill_a_backend(server: EmbeddedPostgres) -> None:
    """The postmaster lives on, so its start says nothing; every session ends."""
    with psycopg.connect(server.url) as bystander:
        os.kill(bystander.info.backend_pid, signal.SIGKILL)
        eventually(lambda: answers(server.url))


@contextmanager
def promoted(server: EmbeddedPostgres) -> Iterator[str]:
    """A standby takes the place of the server, which ends."""
    with new_standby(server) as standby:
        behind = "SELECT pg_current_wal_lsn() <= replay_lsn FROM pg_stat_replication"
        eventually(lambda: execute(server.url, behind) == [(True,)], what="the standby has everything")
        server.halt()
        standby.promote()
        yield standby.url


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("end", [restart, crash, kill_a_backend])
def test_life_of_the_server(
    embedded_server: EmbeddedPostgres, end: Callable[[EmbeddedPostgres], None]
) -> None:
    """Who held a message then has 30 s to return, and not `grace`; others may be back long before."""
    queue = begin(embedded_server.url, lambda: end(embedded_server))
    judge(embedded_server.url, queue)


def test_promotion_begins_a_new_life(embedded_server: EmbeddedPostgres) -> None:
    """The standby has the row of a consumer whose sessions were another server's."""
    url = embedded_server.url
    with ExitStack() as stack:
        places: list[str] = []
        queue = begin(url, lambda: places.append(stack.enter_context(promoted(embedded_server))))
        judge(places[0], queue)


def life(url: str, before: str | None = None) -> Life:
    """The server's present one, as a consumer meets it that knew the one before."""
    schema.upgrade(dsn.parse(url), "celery")
    incarnation = Incarnation()
    session, _ = Database(dsn.parse(url), Options()).open()
    session.run(*incarnation.register(pooled=False))
    incarnation.life = before
    found = incarnation.resumed(session.run(*incarnation.resume(incarnation.lock_key, [], pooled=False)))
    session.close()
    return found


@pytest.mark.parametrize(("end", "in_order"), [(restart, True), (crash, False), (kill_a_backend, False)])
def test_life_that_ended_in_order(
    embedded_server: EmbeddedPostgres, end: Callable[[EmbeddedPostgres], None], in_order: bool
) -> None:
    """Whoever returns is told, also when another has returned before."""
    before = life(embedded_server.url)
    assert life(embedded_server.url, before.name) == Life(before.name, in_order=True, known=True)
    end(embedded_server)
    for _ in range(2):
        after = life(embedded_server.url, before.name)
        assert after.name != before.name
        assert after.in_order is in_order


def test_life_on_another_server(embedded_server: EmbeddedPostgres) -> None:
    """What the standby has not been sent is undone; whether there was any, nothing tells."""
    before = life(embedded_server.url)
    with promoted(embedded_server) as url:
        assert not life(url, before.name).in_order


def begin(url: str, end: Callable[[], None]) -> int:
    """Somebody holds a message when the server ends."""
    schema.upgrade(dsn.parse(url), "celery")
    with Hand(url) as holder:
        queue = holder.queue("q")
        holder.publish("q")
        holder.register()
        holder.claim(queue)
        end()
    return queue


def judge(url: str, queue: int) -> None:
    """The holder is dead 30 s after the first look."""
    clock = Clock()
    session, _ = Database(dsn.parse(url), Options()).open()
    reaper = Reaper(session.run, uuid.uuid4(), Options(), clock)
    with Hand(url) as other:
        other.register()
        assert reaper.reap_lost() == []
        clock.now += RESTART_GRACE - 0.1
        assert reaper.reap_lost() == []
        assert other.count("unacked") == 1
        clock.now += 0.2
        assert reaper.reap_lost() == [queue]
    session.close()
