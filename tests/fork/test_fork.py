"""A process that has sessions forks: they stay the parent's alone."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.waiting import eventually

PARENT = Path(__file__).with_name("parent.py")

pytestmark = pytest.mark.ours("sessions of the database server")


def start(site, how, what):
    return site.start("parent", [sys.executable, str(PARENT), how, what])


def sessions(site) -> set[int]:
    """The process ids of the server that others talk to."""
    with psycopg.connect(site.broker.url, application_name="observer") as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND application_name <> 'observer'"
        )
        return {pid for (pid,) in rows}


@pytest.mark.parametrize("how", ["exit", "_exit", "multiprocessing"])
@pytest.mark.parametrize("what", ["nothing", "publish"])
def test_parents_sessions_survive_the_child(site, how, what):
    """The child ends as it likes, after a publish of its own or without: the parent goes on unharmed.

    What it held before the fork can still be acknowledged, and the child published over a session of its own.
    """
    assert start(site, how, what).wait(40) == 0
    assert not site.broker.unacked()
    assert not site.broker.waiting("q")


def test_death_is_seen_although_a_child_lives(site):
    """kill -9 of the parent: the server ends its sessions at once, and the child holds none of them open."""
    parent = start(site, "_exit", "stay")
    child = int(parent.wait_for_line("^forked").split()[1])
    assert len(sessions(site)) in (2, 3)  # the third one is opened a second after the others
    parent.stop(signal.SIGKILL)
    eventually(lambda: not sessions(site), 5, "end of the parent's sessions")
    os.kill(child, 0)  # it is still there, or this raises


def test_session_that_a_thread_is_opening(site):
    """A fork does not come in the middle: no child has a socket that leads to the server."""
    opening = site.start("opening", [sys.executable, str(PARENT.with_name("opening.py"))])
    assert opening.wait(60) == 0, opening.tail()


def test_sessions_that_threads_are_ending(site):
    """They have no socket any more, and do not keep the child from turning the others away."""
    ending = site.start("ending", [sys.executable, str(PARENT.with_name("ending.py"))])
    assert ending.wait(60) == 0, ending.tail()


def test_processes_of_a_pool_that_inherit_sessions(site):
    """A new process for each task, which publishes and ends: the worker keeps the sessions that it had."""
    worker = site.worker("-Q", "celery", "--max-tasks-per-child", "1", concurrency=1)
    site.record.wait_for_one(site.send("record"))
    before = sessions(site)
    entry = site.record.wait_for_one(site.send("relay", 3))
    while entry.note:
        entry = site.record.wait_for_one(entry.note)
    assert len({entry.pid for entry in site.record.entries()}) == 5
    assert before <= sessions(site)
    assert worker.stop() == 0
