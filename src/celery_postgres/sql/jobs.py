"""Jobs and queues as the views tell of them; what is behind one job; taking a waiting one away."""

from __future__ import annotations

from . import Statement

# Queues are few. Index: ready_claim_idx, a count of each queue's range and one step for each priority;
# delayed, unacked and dead_letter are read whole once. Locks: none.
#: Rows: queue, ready, delayed, unacked, dead, age of the oldest ready message in ms or NULL, consumers.
QUEUES = Statement(
    "queues",
    """SELECT queue, ready, delayed, unacked, dead, round(1000 * oldest_s)::bigint, consumers
  FROM {s}.queue_stats ORDER BY queue""",
)

_COLUMNS = """j.id, j.name, j.queue, j.state, j.priority, j.deliveries, j.retries, j.created_on,
       j.started_on, j.completed_on, j.worker, j.tracked"""
_FILTER = "($3::text IS NULL OR j.queue = $3::text) AND ($4::text IS NULL OR j.name LIKE $4::text)"

# Index: message_enqueued_idx and result_created_idx, both walked from their new ends until enough rows pass.
# Locks: none.
#: The newest. 1 created from, 2 created before, 3 queue or NULL, 4 pattern of the name or NULL, 5 how many.
LIST = Statement(
    "list_jobs",
    f"""SELECT {_COLUMNS} FROM {{s}}.job j
 WHERE j.created_on >= $1::timestamptz AND j.created_on < $2::timestamptz AND {_FILTER}
 ORDER BY j.created_on DESC LIMIT $5::int""",
)

# Tasks from another broker have no time of creation. Index: result_created_idx, its part for NULL.
#: The same for those without a time of creation. 1 and 2 are of no meaning, 6 the state or NULL.
LIST_UNDATED = Statement(
    "list_undated_jobs",
    f"""SELECT {_COLUMNS} FROM {{s}}.job j
 WHERE j.created_on IS NULL AND {_FILTER} AND ($6::text IS NULL OR j.state = $6::text)
   AND num_nulls($1::timestamptz, $2::timestamptz) = 0
 LIMIT $5::int""",
)


def _of_state(name: str, candidates: str) -> Statement:
    """The newest in one state: candidates in their order, each looked up in the view.

    A state is not in an index, so walking through the view for a rare one would look at every job.
    """
    return Statement(
        name,
        f"""SELECT {_COLUMNS} FROM ({candidates}) AS candidate
 CROSS JOIN LATERAL (SELECT * FROM {{s}}.job j WHERE j.id = candidate.id OFFSET 0) AS j
 WHERE j.state = $6::text AND j.created_on >= $1::timestamptz AND j.created_on < $2::timestamptz AND {_FILTER}
 LIMIT $5::int""",
    )


# Index: result_created_idx, then as FIND for each. Locks: none.
#: As LIST, for completed, failed and cancelled. 6 the state, 7 Celery's word for it.
LIST_ENDED = _of_state(
    "list_ended_jobs",
    """SELECT task_id AS id FROM {s}.result
     WHERE state = $7::text AND created_at >= $1::timestamptz AND created_at < $2::timestamptz
     ORDER BY created_at DESC""",
)

# Index: message_enqueued_idx, then as FIND for each. Locks: none.
#: As LIST, for created, scheduled and retry. 6 the state.
LIST_WAITING = _of_state(
    "list_waiting_jobs",
    """SELECT m.task_id AS id FROM {s}.message m
     WHERE m.task_id IS NOT NULL AND m.enqueued_at >= $1::timestamptz AND m.enqueued_at < $2::timestamptz
       AND CASE $6::text
               WHEN 'scheduled' THEN EXISTS (SELECT FROM {s}.delayed d WHERE d.message_id = m.id)
               WHEN 'retry' THEN strpos(m.headers, '"retries": 0,') = 0
               ELSE true END
       AND NOT EXISTS (SELECT FROM {s}.message n WHERE n.task_id = m.task_id AND n.id > m.id)
     ORDER BY m.enqueued_at DESC""",
)

# Index: message_pkey for each that is claimed or dead, which are few; result_created_idx is walked for what
# has begun and has no message any more. Then as FIND for each. Locks: none.
#: As LIST, for active and dead. 6 the state.
LIST_HELD = _of_state(
    "list_held_jobs",
    """SELECT id FROM (
        SELECT m.task_id AS id, m.enqueued_at AS at
          FROM {s}.unacked u JOIN {s}.message m ON m.id = u.message_id
         WHERE $6::text = 'active' AND m.task_id IS NOT NULL
        UNION ALL
        SELECT m.task_id, m.enqueued_at
          FROM {s}.dead_letter x JOIN {s}.message m ON m.id = x.message_id
         WHERE $6::text = 'dead' AND m.task_id IS NOT NULL
        UNION ALL
        SELECT task_id, created_at FROM {s}.result
         WHERE $6::text = 'active' AND state NOT IN ('SUCCESS', 'FAILURE', 'REVOKED')
           AND created_at >= $1::timestamptz AND created_at < $2::timestamptz
    ) AS known GROUP BY id ORDER BY max(at) DESC""",
)

# Index: message_task_idx, result_pkey, and one step for each lookup. Locks: none.
#: 1 task id. No row: unknown.
FIND = Statement("find_job", f"SELECT {_COLUMNS} FROM {{s}}.job j WHERE j.id = $1::text")

# Index: message_task_idx, delayed_message_idx, dead_letter_pkey, unacked_pkey. Locks: none.
#: What the newest message of a task says. 1 task id. Row: headers, exchange, routing key, expires at, due at,
#: why it is dead, and of its consumer host, process id and when it claimed.
FIND_MESSAGE = Statement(
    "find_job_message",
    """SELECT m.headers, m.exchange, m.routing_key, m.expires_at, d.due_at, x.reason,
       h.host, h.pid, h.claimed_at
  FROM {s}.message m
  LEFT JOIN {s}.delayed d ON d.message_id = m.id
  LEFT JOIN {s}.dead_letter x ON x.message_id = m.id
  LEFT JOIN LATERAL (
    SELECT c.host, c.pid, u.claimed_at FROM {s}.consumer c
      JOIN {s}.unacked u ON u.consumer_id = c.id AND u.message_id = m.id LIMIT 1) AS h ON true
 WHERE m.task_id = $1::text ORDER BY m.id DESC LIMIT 1""",
)

# Index: result_pkey. Locks: none.
#: What is recorded of a task. 1 task id. Row: state, error, content type, content encoding, meta, worker,
#: root id, parent id, group id, updated at, expires at.
FIND_RESULT = Statement(
    "find_job_result",
    """SELECT state, error, content_type, content_encoding, meta, worker, root_id, parent_id, group_id,
       updated_at, expires_at
  FROM {s}.result WHERE task_id = $1::text""",
)

BEGIN = Statement("begin", "BEGIN")
COMMIT = Statement("commit", "COMMIT")
ROLLBACK = Statement("rollback", "ROLLBACK")

# Index: message_task_idx, then ready_claim_idx and delayed_message_idx. Locks: the state rows, which claims
# and promotions then pass over. Waits for who claims or promotes just now, and does not return what is gone
# when they are done; nor what a promotion has moved, so the caller looks again.
#: The waiting messages of a task, as a claim returns them. 1 task id.
LOCK_WAITING = Statement(
    "lock_waiting",
    """WITH waiting AS (
    SELECT w.message_id, w.deliveries FROM {s}.message m
      JOIN {s}.ready w ON w.queue_id = m.queue_id AND w.priority = m.priority AND w.message_id = m.id
     WHERE m.task_id = $1::text FOR UPDATE OF w
), held AS (
    SELECT d.message_id, d.deliveries FROM {s}.message m JOIN {s}.delayed d ON d.message_id = m.id
     WHERE m.task_id = $1::text FOR UPDATE OF d
)
SELECT m.id, m.queue_id, m.priority, l.deliveries, false, m.enqueued_at,
       m.exchange, m.routing_key, m.content_type, m.content_encoding, m.headers, m.properties, m.body
  FROM (SELECT * FROM waiting UNION ALL SELECT * FROM held) AS l JOIN {s}.message m ON m.id = l.message_id""",
)

# Index: message_pkey, ready_claim_idx, delayed_message_idx. Locks: rows that LOCK_WAITING has locked before
# in the same transaction, and their messages. What is cancelled stays so after a crash of the server.
#: 1 message ids.
DROP_WAITING = Statement(
    "drop_waiting",
    """WITH waiting AS (
    DELETE FROM {s}.ready WHERE ctid = ANY (ARRAY (
        SELECT w.ctid FROM {s}.message m
          JOIN {s}.ready w ON w.queue_id = m.queue_id AND w.priority = m.priority AND w.message_id = m.id
         WHERE m.id = ANY ($1::bigint[])))
), held AS (
    DELETE FROM {s}.delayed WHERE message_id = ANY ($1::bigint[])
), gone AS (
    DELETE FROM {s}.message WHERE id = ANY ($1::bigint[])
)
SELECT CASE current_setting('synchronous_commit')
           WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END""",
)
