"""Consumers: who is there, what they consume, who is gone; and what only they can clean up."""

from __future__ import annotations

from . import Statement

# Advisory locks come in two shapes. Two 64-bit keys per consumer, made of its random id, are held for as long
# as its two sessions live: one by the session that claims, one by the session that beats. Pairs of 32-bit
# keys, whose first is the schema's, are hints: a queue's (shared) says that an idle consumer waits for it,
# zero (exclusive) that somebody sweeps.
# Both are taken with schema and purpose in the key, so two applications in one database do not meet.
#
# Who only looks whether a key is free tries it shared, so that two who look do not take each other for the
# holder. Who reaps takes it exclusively, so that the consumer cannot come back in between.

# What a life is called that began in order, after the one called so: from both sides of a crash nothing tells
# that it happened, but the name that was lost with it. No md5, which some builds refuse.
_NEXT_LIFE = """left(encode(sha256(convert_to(
    {0}::text || extract(epoch FROM pg_postmaster_start_time())::text, 'UTF8')), 'hex'), 32)::uuid"""

# Locks: none as long as the row is right, else the row, which a second session finds changed.
#: Before a consumer registers: sees to it that the present life of the server has a name. After a clean
#: restart the name follows from the last one's; a crash or a promotion has emptied the table.
BEGIN_EPOCH = Statement(
    "begin_epoch",
    f"""INSERT INTO {{s}}.epoch AS e (id, server_started_at)
SELECT gen_random_uuid(), pg_postmaster_start_time()
 WHERE NOT EXISTS (SELECT FROM {{s}}.epoch WHERE one AND server_started_at = pg_postmaster_start_time())
    ON CONFLICT (one) DO UPDATE SET server_started_at = excluded.server_started_at, sweeper = NULL,
       id = {_NEXT_LIFE.format("e.id")}
 WHERE e.server_started_at <> excluded.server_started_at""",
)

_EPOCH = "(SELECT e.id FROM {s}.epoch e WHERE e.one AND e.server_started_at = pg_postmaster_start_time())"

#: 1 id, 2 lock key, 3 beat key, 4 pooled, 5 host, 6 pid, 7 host id, 8 start of the process, 9 node, 10 pool,
#: 11 stall ms. Row: the life of the server.
REGISTER = Statement(
    "register",
    f"""INSERT INTO {{s}}.consumer (id, lock_key, beat_key, pooled, host, pid, host_id, process_started, node,
    pool, stall_ms, epoch)
VALUES ($1::uuid, $2::bigint, $3::bigint, $4::boolean, $5::text, $6::int, $7::text, $8::bigint, $9::text,
    $10::text, $11::bigint, {_EPOCH}) ON CONFLICT (id) DO NOTHING RETURNING epoch::text""",
)

HOLD = Statement("hold", "SELECT pg_advisory_lock($1::bigint)")

# Who looks has such a lock for a moment, too, of another mode.
_HOLDS_KEY = """l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.mode = 'ExclusiveLock'
   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
   AND (l.classid::bigint << 32 | l.objid::bigint) = ANY (%s)"""

#: Ends a session of ours that the server still believes in, and not a reaper that tests the key just then.
#: 1 key, 2 the process ids of those that it may be.
END_HOLDER = Statement(
    "end_holder",
    f"""SELECT pg_terminate_backend(l.pid) FROM pg_locks l
 WHERE {_HOLDS_KEY % "ARRAY[$1::bigint]"} AND l.pid = ANY ($2::int[]) AND l.pid <> pg_backend_pid()""",
)

#: Tells by its answer that the session, and its lock, was there when it was asked.
CONFIRM = Statement("confirm", "SELECT 1")

# After HOLD in the same transaction: whoever reaps needs that lock first, so a row that is there stays.
#: 1 id, 2 the life of the server that is known, or NULL. Row: the present one; whether it is the same, or
#: began in order after it; whether the consumer is there, else it was declared dead.
RESUME = Statement(
    "resume",
    f"""WITH there AS (
    UPDATE {{s}}.consumer SET epoch = {_EPOCH} WHERE id = $1::uuid RETURNING id
)
SELECT e.id::text, coalesce(e.id IN ($2::uuid, {_NEXT_LIFE.format("$2::uuid")}), true),
       EXISTS (SELECT FROM there)
  FROM (SELECT {_EPOCH} AS id) e""",
)

# Index: consumer_pkey; consumer_queue_pkey.
#: Row: how many subscriptions it has. No row: it was declared dead.
BEAT = Statement(
    "beat",
    """UPDATE {s}.consumer SET beat_at = clock_timestamp() WHERE id = $1::uuid
RETURNING (SELECT count(*) FROM {s}.consumer_queue WHERE consumer_id = $1::uuid)""",
)

# Index: queue_pkey.
#: Which of these queues there are. 1 queue ids.
QUEUES_LEFT = Statement("queues_left", "SELECT id FROM {s}.queue WHERE id = ANY ($1::bigint[])")

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

_FREE = """pg_try_advisory_xact_lock_shared({0}.lock_key)
   AND ({0}.beat_key IS NULL OR pg_try_advisory_xact_lock_shared({0}.beat_key))"""
_LOCKS_FREE = _FREE.format("c")

_WHO = "c.id::text, c.host, c.pid, c.host_id, c.process_started"

# Index: consumer_pkey.
#: 1 consumer id. No row: there is no such consumer. Who it is, and whether it shows signs of life.
FIND_CONSUMER = Statement(
    "find_consumer",
    f"""SELECT {_WHO}, CASE WHEN c.pooled THEN c.beat_at > now() - interval '30 s'
            ELSE NOT ({_LOCKS_FREE}) END
  FROM {{s}}.consumer c WHERE c.id = $1::uuid""",
)

# Index: consumer_pkey, read from end to end: a row per worker. Most have their first key held, and end there.
#: The consumers, but the one who asks, without a session. 1 who asks. Who it is; whether its locks were taken
#: in an earlier life of the server; whether another process of the same name and host, which is connected,
#: came after it. The locks of the one who asks are free for the session that asks.
FIND_LOST = Statement(
    "find_lost",
    f"""SELECT {_WHO}, c.beat_key IS NOT NULL AND (c.epoch IS NULL OR c.epoch IS DISTINCT FROM {_EPOCH}),
       EXISTS (SELECT FROM {{s}}.consumer n
                WHERE n.node = c.node AND n.host = c.host AND n.started_at > c.started_at
                  AND (n.pid, n.process_started, n.host_id)
                      IS DISTINCT FROM (c.pid, c.process_started, c.host_id)
                  AND (n.id = $1::uuid OR NOT ({_FREE.format("n")})))
  FROM {{s}}.consumer c
 WHERE NOT c.pooled AND c.id <> $1::uuid AND {_LOCKS_FREE}""",
)

# Index: consumer_pkey, as above.
#: Every consumer but the one who asks. 1 who asks. Who it is; its beat, NULL if it has none; after how many
#: ms without one it is fenced; whether it is behind a pooler.
LIST_BEATS = Statement(
    "list_beats",
    f"""SELECT {_WHO}, CASE WHEN c.pooled OR c.beat_at <> c.started_at THEN c.beat_at END, c.stall_ms,
       c.pooled
  FROM {{s}}.consumer c WHERE c.id <> $1::uuid""",
)


def _stand_by(name: str, lock: str) -> Statement:
    return Statement(
        name,
        f"""SELECT {lock}($1::int, 0), (SELECT count(*) FROM {{s}}.consumer), {_WHO}, c.beat_at
  FROM (VALUES (true)) AS always (one)
  LEFT JOIN {{s}}.epoch e ON e.one = always.one
  LEFT JOIN {{s}}.consumer c ON c.id = e.sweeper""",
    )


# Index: epoch_pkey, consumer_pkey. Locks: the sweeper's, which one session has at a time; behind a pooler for
# the moment. Nobody waits for it: a session that waits holds back the removal of dead rows.
#: 1 the schema's key. Row: whether it is ours to sweep; how many consumers there are; who sweeps, or swept
#: last, and its beat.
STAND_BY = _stand_by("stand_by", "pg_try_advisory_lock")
STAND_BY_POOLED = _stand_by("stand_by_pooled", "pg_try_advisory_xact_lock")

#: 1 consumer id.
BEGIN_TO_SWEEP = Statement("begin_to_sweep", "UPDATE {s}.epoch SET sweeper = $1::uuid WHERE one")

#: Ends the sessions that hold these keys. 1 keys. A row for each; NULL where this role may not.
END_SESSIONS = Statement(
    "end_sessions",
    f"""SELECT CASE WHEN pg_has_role(a.usesysid, 'MEMBER') THEN pg_terminate_backend(l.pid) END
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE {_HOLDS_KEY % "$1::bigint[]"} AND l.pid <> pg_backend_pid()""",
)

# Locks: the consumer's advisory locks first, so that it cannot come back in between; then its rows, but not
# those that somebody holds: who settles them in another order would wait for us, and we for him. What was
# passed over, and a claim of the dead one that commits later, is found by RELEASE_ORPHANS.
#: 1 consumer id, 2 max deliveries (0: no limit), 3 the beat that stands still, in
#: microseconds since the year 2000; NULL where its locks decide.
#: Rows: queue id, how many messages are ready again, how many there were; one without a queue if it is gone.
REAP = Statement(
    "reap",
    """WITH dead AS (
    DELETE FROM {s}.consumer WHERE id = $1::uuid
       AND CASE WHEN $3::bigint IS NOT NULL
                THEN beat_at = timestamptz '2000-01-01 00:00:00+00' + $3::bigint * interval '1 us'
                ELSE pg_try_advisory_xact_lock(lock_key)
                 AND (beat_key IS NULL OR pg_try_advisory_xact_lock(beat_key)) END
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
  FROM freed GROUP BY queue_id
 UNION ALL SELECT NULL, 0, 0 FROM dead""",
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
