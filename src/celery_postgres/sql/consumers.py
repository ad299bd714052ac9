"""Consumers: who is there, what they consume, who is gone; and what only they can clean up."""

from __future__ import annotations

from . import Statement

# Advisory locks come in two shapes. One 64-bit key per consumer, made of its random id, is held for as
# long as the consumer's session lives. Pairs of 32-bit keys, whose first is the schema's, are hints: a
# queue's (shared) says that an idle consumer waits for it, zero (exclusive) that somebody sweeps.
# Both are taken with schema and purpose in the key, so two applications in one database do not meet.

#: 1 id, 2 lock key, 3 pooled, 4 host, 5 pid.
REGISTER = Statement(
    "register",
    """INSERT INTO {s}.consumer (id, lock_key, pooled, host, pid)
VALUES ($1::uuid, $2::bigint, $3::boolean, $4::text, $5::int) ON CONFLICT (id) DO NOTHING""",
)

HOLD = Statement("hold", "SELECT pg_advisory_lock($1::bigint)")

#: The server frees the lock with the session; through a pooler the beat alone speaks.
BEAT = Statement("beat", "UPDATE {s}.consumer SET beat_at = now() WHERE id = $1::uuid RETURNING id")

#: 1 id. Its messages were released before.
DEREGISTER = Statement("deregister", "DELETE FROM {s}.consumer WHERE id = $1::uuid")

# After LOCK_QUEUE in the same transaction, so that it sees the consumer who came just before.
#: 1 consumer, 2 tag, 3 queue id, 4 no_ack, 5 exclusive. No row: the queue has consumers and one of the
#: two wants to be alone, or the queue is gone.
SUBSCRIBE = Statement(
    "subscribe",
    """WITH used AS (
    UPDATE {s}.queue SET consumed = true, used_at = now()
     WHERE id = $3::bigint AND (NOT consumed OR expires_ms IS NOT NULL)
)
INSERT INTO {s}.consumer_queue (consumer_id, tag, queue_id, no_ack, exclusive)
SELECT $1::uuid, $2::text, id, $4::boolean, $5::boolean FROM {s}.queue WHERE id = $3::bigint
   AND NOT EXISTS (
    SELECT FROM {s}.consumer_queue c WHERE c.queue_id = $3::bigint AND ($5::boolean OR c.exclusive))
RETURNING tag""",
)

#: 1 consumer, 2 tag.
UNSUBSCRIBE = Statement(
    "unsubscribe",
    """WITH gone AS (
    DELETE FROM {s}.consumer_queue WHERE consumer_id = $1::uuid AND tag = $2::text RETURNING queue_id
)
UPDATE {s}.queue SET used_at = now() WHERE expires_ms IS NOT NULL AND id IN (SELECT queue_id FROM gone)""",
)

#: 1 consumer id. Whether it still exists and its lock is held by a session.
IS_LIVE = Statement(
    "is_live",
    """SELECT count(*) FROM {s}.consumer WHERE id = $1::uuid
   AND CASE WHEN pooled THEN beat_at > now() - interval '30 s'
            ELSE NOT pg_try_advisory_xact_lock(lock_key) END""",
)

# Index: none, the table has a row per worker. A lock that can be taken is a session that is gone.
#: The consumers that seem gone.
FIND_LOST = Statement(
    "find_lost",
    """SELECT id::text, host, pid FROM {s}.consumer
 WHERE CASE WHEN pooled THEN beat_at < now() - interval '30 s'
            ELSE pg_try_advisory_xact_lock(lock_key) END""",
)

# Locks: the consumer's advisory lock first, so that it cannot come back in between; then its rows, but not
# those that somebody holds: who settles them in another order would wait for us, and we for him. What was
# passed over, and a claim of the dead one that commits later, is found by RELEASE_ORPHANS.
#: 1 consumer id, 2 max deliveries (0: no limit). Rows: queue ids, NULL where it went to dead_letter.
REAP = Statement(
    "reap",
    """WITH dead AS (
    DELETE FROM {s}.consumer WHERE id = $1::uuid
       AND CASE WHEN pooled THEN beat_at < now() - interval '30 s'
                ELSE pg_try_advisory_xact_lock(lock_key) END
    RETURNING id
), freed AS (
    DELETE FROM {s}.unacked WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.unacked WHERE consumer_id = (SELECT id FROM dead) FOR UPDATE SKIP LOCKED))
    RETURNING message_id, queue_id, priority, deliveries
), placed AS (
    INSERT INTO {s}.ready (queue_id, priority, message_id, deliveries)
    SELECT queue_id, priority, message_id, deliveries FROM freed
     WHERE $2::int = 0 OR deliveries < $2::int
), buried AS (
    INSERT INTO {s}.dead_letter (message_id, queue, reason, deliveries)
    SELECT f.message_id, q.name, 'max_deliveries', f.deliveries
      FROM freed f LEFT JOIN {s}.queue q ON q.id = f.queue_id
     WHERE $2::int > 0 AND f.deliveries >= $2::int
)
SELECT queue_id, count(*) FILTER (WHERE $2::int = 0 OR deliveries < $2::int), count(*)
  FROM freed GROUP BY queue_id""",
)

# Index: unacked_pkey, one step per owner. Locks: the rows that return, passing over those that others hold.
#: Gives back what belongs to a consumer that does not exist. 1 seconds that a claim must be old.
RELEASE_ORPHANS = Statement(
    "release_orphans",
    """WITH RECURSIVE owner AS (
    (SELECT consumer_id AS id FROM {s}.unacked ORDER BY consumer_id LIMIT 1)
    UNION ALL
    SELECT (SELECT u.consumer_id FROM {s}.unacked u WHERE u.consumer_id > o.id ORDER BY u.consumer_id LIMIT 1)
      FROM owner o WHERE o.id IS NOT NULL
), freed AS (
    DELETE FROM {s}.unacked WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.unacked
         WHERE claimed_at < now() - $1::float8 * interval '1 s' AND consumer_id = ANY (ARRAY (
            SELECT o.id FROM owner o WHERE NOT EXISTS (SELECT FROM {s}.consumer c WHERE c.id = o.id)))
           FOR UPDATE SKIP LOCKED))
    RETURNING message_id, queue_id, priority, deliveries
), placed AS (
    INSERT INTO {s}.ready (queue_id, priority, message_id, deliveries)
    SELECT queue_id, priority, message_id, deliveries FROM freed
)
SELECT DISTINCT queue_id FROM freed""",
)

#: Queues whose time has come: expired, auto-delete without consumers, exclusive without their holder.
FIND_IDLE_QUEUES = Statement(
    "find_idle_queues",
    """SELECT q.id, q.name FROM {s}.queue q
 WHERE NOT EXISTS (SELECT FROM {s}.consumer_queue c WHERE c.queue_id = q.id)
   AND (q.used_at + q.expires_ms * interval '1 ms' < now()
        OR q.auto_delete AND q.consumed
        OR q.exclusive AND NOT EXISTS (SELECT FROM {s}.consumer c WHERE c.id = q.holder))""",
)

# Index: ready_claim_idx, one step per queue that has something waiting. Locks: the rows that go.
#: Ready messages whose queue vanished while they were being published.
DROP_STRAYS = Statement(
    "drop_strays",
    """WITH RECURSIVE present AS (
    (SELECT queue_id FROM {s}.ready ORDER BY queue_id LIMIT 1)
    UNION ALL
    SELECT (SELECT r.queue_id FROM {s}.ready r WHERE r.queue_id > p.queue_id ORDER BY r.queue_id LIMIT 1)
      FROM present p WHERE p.queue_id IS NOT NULL
), gone AS (
    DELETE FROM {s}.ready WHERE queue_id = ANY (ARRAY (
        SELECT p.queue_id FROM present p WHERE p.queue_id IS NOT NULL
           AND NOT EXISTS (SELECT FROM {s}.queue q WHERE q.id = p.queue_id)))
    RETURNING message_id
)
DELETE FROM {s}.message WHERE id IN (SELECT message_id FROM gone)""",
)

#: 1 how old, in seconds, an entry of the broadcast log may become if no queue says anything else.
TRIM_BROADCAST = Statement(
    "trim_broadcast",
    """DELETE FROM {s}.broadcast
 WHERE coalesce(expires_at, published_at + $1::float8 * interval '1 s') < now()""",
)
