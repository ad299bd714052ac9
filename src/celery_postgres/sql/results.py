"""Results of tasks, saved groups, and the waking of those who wait for them."""

from __future__ import annotations

from . import Statement

# Index: result_pkey. Locks: the row of the task. A stored success stays, whatever is delivered or revoked
# later; everything else gives way to what is newer.
# What one state knows and the next does not (who sent it and when) is kept.
#: 1 task id, 2 state, 3 content type, 4 content encoding, 5 meta, 6 error in short, 7 name, 8 queue,
#: 9 worker, 10 retries, 11 root id, 12 parent id, 13 group id, 14 when the message was stored in
#: microseconds since 2000, 15 seconds since the task's code began, 16 whether the state is final, 17 seconds
#: to keep it or NULL.
STORE_ROW = """INSERT INTO {s}.result AS r (task_id, state, content_type, content_encoding, meta, error, name,
    queue, worker, retries, root_id, parent_id, group_id, created_at, started_at, finished_at, updated_at,
    expires_at)
SELECT $1::text, $2::text, $3::text, $4::text, $5::bytea, $6::text, $7::text,
    $8::text, $9::text, $10::int, $11::text, $12::text, $13::text,
    timestamptz '2000-01-01 00:00:00+00' + $14::bigint * interval '1 microsecond',
    clock_timestamp() - $15::float8 * interval '1 s', CASE WHEN $16::bool THEN clock_timestamp() END,
    clock_timestamp(), now() + $17::float8 * interval '1 s'"""

OVER_ALL_BUT_SUCCESS = """
ON CONFLICT (task_id) DO UPDATE SET state = excluded.state, content_type = excluded.content_type,
    content_encoding = excluded.content_encoding, meta = excluded.meta, error = excluded.error,
    name = coalesce(excluded.name, r.name), queue = coalesce(excluded.queue, r.queue),
    worker = coalesce(excluded.worker, r.worker), retries = coalesce(excluded.retries, r.retries),
    root_id = coalesce(excluded.root_id, r.root_id), parent_id = coalesce(excluded.parent_id, r.parent_id),
    group_id = coalesce(excluded.group_id, r.group_id),
    created_at = coalesce(r.created_at, excluded.created_at),
    started_at = coalesce(excluded.started_at, r.started_at), finished_at = excluded.finished_at,
    updated_at = excluded.updated_at, expires_at = excluded.expires_at
 WHERE r.state <> 'SUCCESS' OR r.expires_at <= now()"""

STORE = Statement("store_result", STORE_ROW + OVER_ALL_BUT_SUCCESS)

# Index: result_pkey. Locks: none.
#: 1 task ids. Row: task id, state, content type, content encoding, meta.
READ = Statement(
    "read_results",
    """SELECT task_id, state, content_type, content_encoding, meta FROM {s}.result
 WHERE task_id = ANY ($1::text[]) AND (expires_at IS NULL OR expires_at > now())""",
)

#: 1 task id.
FORGET = Statement("forget_result", "DELETE FROM {s}.result WHERE task_id = $1::text")

#: 1 group id, 2 content type, 3 content encoding, 4 meta, 5 seconds to keep it or NULL.
SAVE_GROUP = Statement(
    "save_group",
    """INSERT INTO {s}.group_result (group_id, content_type, content_encoding, meta, expires_at)
SELECT $1::text, $2::text, $3::text, $4::bytea, now() + $5::float8 * interval '1 s'
ON CONFLICT (group_id) DO UPDATE SET content_type = excluded.content_type,
    content_encoding = excluded.content_encoding, meta = excluded.meta, expires_at = excluded.expires_at""",
)

#: 1 group id. Row: content type, content encoding, meta.
READ_GROUP = Statement(
    "read_group",
    """SELECT content_type, content_encoding, meta FROM {s}.group_result
 WHERE group_id = $1::text AND (expires_at IS NULL OR expires_at > now())""",
)

#: 1 group id.
DELETE_GROUP = Statement("delete_group", "DELETE FROM {s}.group_result WHERE group_id = $1::text")

# Index: the three expiry indexes from their low ends. Locks: the rows that go, passing over those that others
# hold, so any number of processes may do it at once.
#: 1 how many of each at most. Row: how many results, groups and chords went.
EXPIRE = Statement(
    "expire_results",
    """WITH results AS (
    DELETE FROM {s}.result WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.result WHERE expires_at <= now()
         ORDER BY expires_at LIMIT $1::int FOR UPDATE SKIP LOCKED))
    RETURNING task_id
), groups AS (
    DELETE FROM {s}.group_result WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.group_result WHERE expires_at <= now()
         ORDER BY expires_at LIMIT $1::int FOR UPDATE SKIP LOCKED))
    RETURNING group_id
), chords AS (
    DELETE FROM {s}.chord WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.chord WHERE expires_at <= now()
         ORDER BY expires_at LIMIT $1::int FOR UPDATE SKIP LOCKED))
    RETURNING group_id
), parts AS (
    DELETE FROM {s}.chord_part WHERE group_id IN (SELECT group_id FROM chords)
)
SELECT (SELECT count(*) FROM results), (SELECT count(*) FROM groups), (SELECT count(*) FROM chords)""",
)

# A process that waits for results holds the lock of their bucket shared, so an exclusive try fails exactly
# then, and only then is anybody notified. The test comes after the commit of the result: the waiter takes its
# lock first and reads the result then, so one of the two always sees the other.
# Nobody is told of what was not stored: because it was refused, or because a success stood there already.
#: 1 channel, 2 beginning of the payload, 3 and 4 the lock's keys, 5 task id, 6 its state, 7 the result as it
#: goes with the payload, or nothing.
WAKE_IF_WAITED = Statement(
    "wake_if_waited",
    """SELECT pg_notify($1::text, $2::text || $7::text)
 WHERE NOT pg_try_advisory_xact_lock($3::int, $4::int)
   AND (SELECT state = $6::text AND ($7::text = '' OR meta = convert_to($7::text, 'UTF8'))
          FROM {s}.result WHERE task_id = $5::text)""",
)

#: 1 first lock key, 2 buckets. Waits for who tests just then.
BEGIN_TO_WAIT = Statement(
    "begin_to_wait",
    "SELECT pg_advisory_lock_shared($1::int, bucket) FROM unnest($2::int[]) AS b (bucket)",
)

WAIT_NO_MORE = Statement(
    "wait_no_more_for_results",
    "SELECT pg_advisory_unlock_shared($1::int, bucket) FROM unnest($2::int[]) AS b (bucket)",
)
