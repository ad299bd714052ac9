"""Bells: hints that something can be claimed. Losing one costs latency, never a message."""

from __future__ import annotations

from . import Statement

# A transaction that notifies holds a cluster-wide lock from before its commit to its end. So the bell has
# a transaction of its own, after the commit of what it announces, and is rung only if somebody waits: an
# idle consumer holds the queue's lock shared, so an exclusive try fails exactly then.
#: 1 channel, 2 first lock key, 3 queue ids.
RING_IF_IDLE = Statement(
    "ring_if_idle",
    """SELECT pg_notify($1::text, id::text) FROM unnest($3::bigint[]) AS q (id)
 WHERE NOT pg_try_advisory_xact_lock($2::int, (id % 2147483647)::int)""",
)

#: For sessions behind a pooler, which see no session's locks. 1 channel, 2 queue ids.
RING = Statement("ring", "SELECT pg_notify($1::text, id::text) FROM unnest($2::bigint[]) AS q (id)")

#: 1 first lock key, 2 queue ids. Not waiting for the lock: who holds it is a publisher's short test.
WAIT_IDLE = Statement(
    "wait_idle",
    """SELECT id, pg_try_advisory_lock_shared($1::int, (id % 2147483647)::int)
  FROM unnest($2::bigint[]) AS q (id)""",
)

WAIT_NO_MORE = Statement(
    "wait_no_more",
    """SELECT pg_advisory_unlock_shared($1::int, (id % 2147483647)::int)
  FROM unnest($2::bigint[]) AS q (id)""",
)
