"""Many processes that start at the same instant on an empty broker."""

from __future__ import annotations

import sys

import pytest

from tests.fixtures.broker import empty_broker

PUBLISHERS = 16
WORKERS = 4

# Imports everything, says so, and publishes as soon as a line comes in.
PUBLISHER = """
import sys
import probe
probe.record.app.amqp
print("waiting", flush=True)
sys.stdin.readline()
print("sent", probe.record.delay(int(sys.argv[1])).id, flush=True)
"""


@pytest.fixture
def fresh_broker(request):
    """A database without our schema: one of the processes has to make it."""
    with empty_broker(request, "empty_database_url") as empty:
        yield empty


def test_twenty_processes_start_at_once(site):
    """All of them succeed, whoever makes the tables, and each task runs once."""
    publishers = [
        site.start(f"publisher {number}", [sys.executable, "-c", PUBLISHER, str(number)])
        for number in range(PUBLISHERS)
    ]
    for publisher in publishers:
        publisher.wait_for_line("waiting")
    workers = [site.start_worker("-Q", "celery", pool="solo") for _ in range(WORKERS)]
    for publisher in publishers:
        publisher.write("go\n")
    ids = [publisher.wait_for_line("^sent ").split()[1] for publisher in publishers]
    assert [publisher.wait(30) for publisher in publishers] == [0] * PUBLISHERS
    for worker in workers:
        worker.wait_until_ready(60)
    site.record.wait_for(ids, timeout_s=30)
    assert site.record.counts().total() == PUBLISHERS
    assert [worker.stop() for worker in workers] == [0] * WORKERS
    assert site.broker.unacked() == 0
    for process in [*publishers, *workers]:
        assert "Traceback" not in "\n".join(process.lines), process.tail()


def test_first_worker_says_what_it_did_and_no_more(site):
    """It names the schema's upgrade in its log, and nothing of the tools that made it."""
    worker = site.worker("-Q", "celery", pool="solo")
    log = "\n".join(worker.lines)
    assert "Running upgrade  -> 1.1" in log
    assert "plugin" not in log


@pytest.mark.differs(amqp="RabbitMQ has words of its own", redis="both run, and share their commands")
def test_second_worker_of_the_same_name(site):
    """It ends, and says what to do; the first one goes on."""
    first = site.worker("-Q", "celery", "-n", "twin@here", pool="solo")
    second = site.start_worker("-Q", "celery", "-n", "twin@here", pool="solo")
    assert second.wait(30) != 0
    second.wait_for_line("a worker named twin@here runs already: .* with the option -n")
    site.record.wait_for_one(site.send("record"))
    assert first.stop() == 0
