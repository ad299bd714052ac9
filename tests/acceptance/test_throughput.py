"""Four publishers and four workers at once: each task is executed exactly once."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from tests.fixtures.broker import count_rows
from tests.fixtures.waiting import eventually

PUBLISHERS = 4
TABLES = ("message", "ready", "unacked", "delayed")

# The arguments tell whose message it is; the identifiers are for the record.
PUBLISHER = """
import sys
import probe
publisher, count = int(sys.argv[1]), int(sys.argv[2])
probe.record.app.amqp
sys.stdin.readline()
for number in range(count):
    probe.record.delay(publisher, number)
print("published", flush=True)
"""


@pytest.mark.parametrize(
    "count",
    [3_000, pytest.param(100_000, marks=pytest.mark.long)],
)
def test_exactly_once(site, count):
    """Without faults nothing is lost, nothing runs twice, and no row stays behind."""
    workers = [
        site.start_worker("-Q", "celery", "-l", "WARNING", pool=pool, concurrency=concurrency)
        for pool, concurrency in (("prefork", 2), ("prefork", 2), ("threads", 4), ("solo", 1))
    ]
    share = count // PUBLISHERS
    publishers = [
        site.start(f"publisher {number}", [sys.executable, "-c", PUBLISHER, str(number), str(share)])
        for number in range(PUBLISHERS)
    ]
    timeout_s = 60 + count / 100
    for worker in workers:  # whose logs do not say that they are ready
        eventually(site.control.inspect(destination=[worker.nodename], timeout=1).ping)
    for publisher in publishers:
        publisher.write("go\n")
    for publisher in publishers:
        publisher.wait_for_line("published", timeout_s)
        assert publisher.wait(20) == 0
    site.record.wait_until(lambda entries: len(entries) >= count, timeout_s, f"execution of {count} tasks")
    eventually(lambda: site.broker.unacked() == 0)
    assert [worker.stop() for worker in workers] == [0] * len(workers)
    executed = Counter(tuple(entry.args) for entry in site.record.entries())
    assert executed == Counter(
        (publisher, number) for publisher in range(PUBLISHERS) for number in range(share)
    )
    assert max(site.record.counts().values()) == 1
    if site.broker.ours:
        assert {table: count_rows(site.broker.url, table) for table in TABLES} == dict.fromkeys(TABLES, 0)
    by_worker = Counter(entry.hostname for entry in site.record.entries())
    assert len(by_worker) == len(workers), f"not every worker took part: {by_worker}"
