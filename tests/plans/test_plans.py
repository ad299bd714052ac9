"""Each statement finds what it needs by an index, whatever the tables hold and held when it was planned.

Three looks at each: planned on empty tables; the same plan after 200,000 messages have come, as in a worker
that was started before them; and a new plan, made with statistics. Always the plan for any values, which is
the one that a session keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from celery_postgres.sql import broadcast, consumers, messages, reconcile, topology, wakeup

from . import backlog
from .plan import STAGES, Case, at_every_stage, check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .plan import Plan


def message(exchange: str, routing_key: str, **more: str) -> tuple[object, ...]:
    content = (None, None, None, None, None, "{}", "{}", b"x", more.get("due_at"), "on")
    return (UUID(int=2**100), exchange, routing_key, 0, *content)


def lanes(queue_ids: list[int], beginning: int) -> tuple[object, ...]:
    """All ten priorities of each queue."""
    places = [(queue_id, priority) for queue_id in queue_ids for priority in range(9, -1, -1)]
    priorities = [priority for _, priority in places]
    return [queue_id for queue_id, _ in places], 10, priorities, [beginning] * len(places)


ME = backlog.CONSUMER
MINE = (ME, [50, 100, 150], [1, 1, 1])
KEYS = ([50, 100, 150], [0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0])
READ_LOG = ([11, 12], [backlog.BEFORE_THE_LOG, backlog.BEFORE_THE_LOG])

#: About four pages for each step down an index of this size.
CASES = [
    Case(messages.PUBLISH_TO_QUEUE, message("", "queue1"), 40),
    Case(messages.PUBLISH_LATER_TO_QUEUE, message("", "queue1", due_at="2100-01-01"), 40),
    Case(messages.PUBLISH_LATER, message("topic", "a.3.b", due_at="2100-01-01"), 50, "topic"),
    Case(messages.PUBLISH, message("direct", "key1"), 50, "direct"),
    Case(messages.PUBLISH, message("topic", "a.3.b"), 50, "topic"),
    Case(messages.PUBLISH, message("fanout", ""), 200, "fanout"),
    Case(messages.PUBLISH_ONCE_TO_QUEUE, message("", "queue1"), 60),
    Case(messages.PUBLISH_ONCE, message("topic", "a.3.b"), 70, "topic"),
    Case(messages.FORGET_PUBLISHED, (600.0, 100), 1500, rows=250),
    Case(messages.CLAIM, (ME, [1], 10), 400, "of one queue"),
    Case(messages.CLAIM, (ME, [1, 2, 3, 4], 10), 400, "of several queues"),
    Case(messages.CLAIM, (ME, [backlog.EMPTY], 10), 20, "of an empty queue"),
    Case(messages.CLAIM_BEHIND, (ME, *lanes([1], 50_000)), 400, "in one queue"),
    Case(messages.CLAIM_BEHIND, (ME, *lanes([1, 2, 3, 4], 50_000)), 400, "in several queues"),
    Case(messages.CLAIM_BEHIND, (ME, *lanes([1, 2, 3, 4], 10**9)), 200, "that have come to their end"),
    Case(messages.ACK, MINE, 100),
    Case(messages.RELEASE, MINE, 80),
    Case(messages.REJECT, (*MINE, "rejected", True), 150, "and keep"),
    Case(messages.REJECT, (*MINE, "rejected", False), 100, "and drop"),
    Case(messages.COPY, (*message("direct", "key1"), ME, 50, 1), 80),
    Case(messages.COPY_TO_QUEUE, (*message("", "queue1"), ME, 50, 1), 80),
    Case(messages.PROMOTE, (1000,), 2000, rows=200),
    Case(messages.NEXT_DUE, (), 100),
    Case(messages.COUNT, (1, 1000), 2200, rows=1300),
    Case(messages.CLAIM_EXPIRED, (ME, 1000), 6000, rows=250),
    Case(messages.CLAIM_EXCESS, (ME, backlog.SHORT, 100, None), 2500, rows=150),
    Case(messages.PURGE, (backlog.EMPTY,), 400, whole=frozenset({"delayed"}), rows=20_100),
    Case(reconcile.LIST_HELD, (ME,), 6000, rows=6000),
    Case(reconcile.READ_HELD, (ME, [50, 100, 150]), 60),
    Case(reconcile.ADOPT, (ME, *KEYS), 200),
    Case(reconcile.FINISH, (ME, *KEYS), 200),
    Case(broadcast.READ, (*READ_LOG, None, "0", 0, 0, 500), 5000, rows=600),
    Case(broadcast.READ, (*READ_LOG, "30000:30000:", "9000", 0, 0, 500), 5000, "the next page", rows=600),
    Case(consumers.BEAT, (ME,), 20),
    Case(consumers.BEGIN_EPOCH, (), 20),
    Case(consumers.RESUME, (ME, None), 20),
    Case(consumers.FIND_CONSUMER, (ME,), 10),
    Case(consumers.FIND_LOST, (UUID(int=2),), 500, rows=3000),
    Case(consumers.LIST_BEATS, (UUID(int=2),), 10),
    Case(consumers.STAND_BY, (1,), 20),
    Case(consumers.BEGIN_TO_SWEEP, (ME,), 20),
    Case(consumers.REAP, (ME, 20, None), 1500),
    Case(consumers.REAP, (ME, 20, 0), 20, "that beats"),
    Case(consumers.RELEASE_ORPHANS, (7.0,), 400),
    Case(consumers.DROP_STRAYS, (), 1500),
    Case(consumers.FIND_IDLE_QUEUES, (), 200),
    Case(consumers.SUBSCRIBE, (ME, "1.2", 1, False, False), 60),
    Case(topology.FIND_QUEUE, ("queue1",), 20),
    Case(topology.LOCK_QUEUE, (1,), 20),
    Case(topology.LOCK_EXCHANGE, ("amq.topic",), 20),
    Case(topology.LOCK_EXCHANGES_OF, (1,), 40),
    Case(messages.HELD, ([1, 2], 100, 8192), 2000, rows=1000),
    Case(topology.DELETE_QUEUE, (backlog.LOGGED, False, False), 60, "of the broadcast log"),
    Case(
        topology.DELETE_QUEUE,
        (backlog.EMPTY, False, False),
        500,
        "of rows",
        whole=frozenset({"delayed", "unacked"}),
        rows=20_100,
    ),
    Case(wakeup.RING_IF_IDLE, ("channel", 1, [1, 2], 0, 1, 2), 10),
]


@pytest.fixture(scope="module")
def plans(module_database_url: str) -> Iterator[dict[tuple[str, str], Plan]]:
    """Every case at every stage."""
    before = f"{backlog.TOPOLOGY}; ANALYZE"
    yield from at_every_stage(module_database_url, CASES, before=before, backlog=backlog.MESSAGES)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_cost_does_not_grow_with_the_backlog(plans, stage, case) -> None:
    """No table is read whole, no backlog is sorted, and few pages and rows are looked at."""
    check(plans[stage, case.id], case)
