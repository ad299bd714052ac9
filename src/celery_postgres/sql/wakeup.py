"""Bells: hints that something can be claimed. Losing one costs latency, never a message."""

from __future__ import annotations

from . import Statement

# A transaction that notifies holds a cluster-wide lock from before its commit to its end. So the bell has
# a transaction of its own, after the commit of what it announces, and is rung only if somebody waits.
#
# Who waits holds one of two kinds of locks of the queue. One that several may hold, shared: an exclusive try
# fails exactly then. Or a slot's, exclusively: a shared try fails exactly then, so that publishers who try at
# once do not take each other for a consumer.

#: Slots of each queue.
SLOTS = 16

# First the shared lock and then the slots: a consumer that takes a slot holds both for a moment, so it is
# seen in one of them. Who goes the other way claims at once and looks again soon.
#: Wakes up to $6 of those who have a slot; if nobody has one, all who hold the lock. 1 channel, 2 first lock
#: key, 3 queue ids, 4 the slot to begin with, 5 how far it is to the next (odd), 6 how many. A row for each
#: notification. It takes up to 17 locks for each queue, until it has committed.
RING_IF_IDLE = Statement(
    "ring_if_idle",
    f"""SELECT pg_notify($1::text || coalesce('_' || s.slot, ''), id || coalesce(' ' || s.slot, ''))
  FROM unnest($3::bigint[]) AS q (id)
 CROSS JOIN LATERAL (
    SELECT NOT pg_try_advisory_xact_lock($2::int, (id % 2147483647)::int) AS waits OFFSET 0) AS shared
  LEFT JOIN LATERAL (
    SELECT n AS slot
      FROM (SELECT ($4::int + i * $5::int) & {SLOTS - 1}
              FROM generate_series(0, {SLOTS - 1}) AS i) AS slots (n)
     WHERE shared.waits IS NOT NULL
       AND NOT pg_try_advisory_xact_lock_shared($2::int # (1 + n), (id % 2147483647)::int)
     LIMIT $6::int) AS s ON true
 WHERE s.slot IS NOT NULL OR shared.waits""",
)

#: For sessions behind a pooler, which see no session's locks, and for many queues at once. 1 channel, 2 queue
#: ids.
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

# Each takes the one lock before it gives the other one back.
#: From the shared lock to a slot, if that is free. 1 first lock key, 2 queue ids, 3 slot. A row for each: id,
#: whether it has the slot.
TAKE_SLOT = Statement(
    "take_slot",
    """SELECT id, taken, CASE WHEN taken THEN pg_advisory_unlock_shared($1::int, (id % 2147483647)::int) END
  FROM (SELECT id, pg_try_advisory_lock($1::int # (1 + $3::int), (id % 2147483647)::int) AS taken
          FROM unnest($2::bigint[]) AS q (id) OFFSET 0) AS tried""",
)

#: From a slot to the shared lock. Parameters as above. A row for each: id, whether it has the shared lock.
LEAVE_SLOT = Statement(
    "leave_slot",
    """SELECT id, pg_try_advisory_lock_shared($1::int, (id % 2147483647)::int),
       pg_advisory_unlock($1::int # (1 + $3::int), (id % 2147483647)::int)
  FROM unnest($2::bigint[]) AS q (id)""",
)

#: Parameters as above. False for what was not held.
FREE_SLOT = Statement(
    "free_slot",
    """SELECT pg_advisory_unlock($1::int # (1 + $3::int), (id % 2147483647)::int)
  FROM unnest($2::bigint[]) AS q (id)""",
)
