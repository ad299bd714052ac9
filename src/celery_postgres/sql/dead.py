"""Dead letters: looking at them, giving them back to a queue, forgetting them."""

from __future__ import annotations

from . import Statement

# A dead letter is a row of `dead_letter`, which says why, and its message, which nobody has touched. Whoever
# changes it locks the row first, in the order of the ids, then the message; who comes second finds it gone.

# Of these values all statements that choose: 1 queue or NULL, 2 pattern of the task's name or NULL, 3 reason
# or NULL, 4 died from, 5 died before.
_ABOUT = """($1::text IS NULL OR x.queue = $1::text) AND ($2::text IS NULL OR m.task LIKE $2::text)
   AND ($3::text IS NULL OR x.reason = $3::text)"""
_CHOSEN = f"{_ABOUT} AND x.died_at >= $4::timestamptz AND x.died_at < $5::timestamptz"

_COLUMNS = """x.message_id, m.task_id, m.task, x.queue, x.reason, x.died_at, x.deliveries, m.enqueued_at,
       m.priority, m.exchange, m.routing_key"""

# Not the body, nor its length: whoever may see states and no contents may list.
# Index: dead_letter_died_idx from its new end, until enough rows pass; message_pkey. Locks: none.
#: The last that died. 6 how many at most.
LIST = Statement(
    "list_dead",
    f"""SELECT {_COLUMNS} FROM {{s}}.dead_letter x JOIN {{s}}.message m ON m.id = x.message_id
 WHERE {_CHOSEN}
 ORDER BY x.died_at DESC, x.message_id DESC LIMIT $6::int""",
)

# Index: dead_letter_died_idx over all the time that is asked for; message_pkey; queue_name_key. Locks: none.
#: How many there are. Rows: queue or NULL, whether messages can be put into it, how many.
COUNT = Statement(
    "count_dead",
    f"""SELECT x.queue, coalesce(bool_and(q.broadcast_from IS NULL AND q.id IS NOT NULL), false), count(*)
  FROM {{s}}.dead_letter x JOIN {{s}}.message m ON m.id = x.message_id
  LEFT JOIN {{s}}.queue q ON q.name = x.queue
 WHERE {_CHOSEN}
 GROUP BY x.queue ORDER BY x.queue""",
)

# Index: dead_letter_pkey, from where the last page ended; message_pkey. Locks: none. The sum keeps the
# planner from dead_letter_died_idx, by which each page would look at all and sort them.
#: The next page, in the order in which they were published. 6 behind which message id, 7 how many at most.
PICK = Statement(
    "pick_dead",
    f"""SELECT x.message_id FROM {{s}}.dead_letter x JOIN {{s}}.message m ON m.id = x.message_id
 WHERE {_ABOUT} AND x.died_at + interval '0' >= $4::timestamptz AND x.died_at + interval '0' < $5::timestamptz
   AND x.message_id > $6::bigint
 ORDER BY x.message_id LIMIT $7::int""",
)

# Index: dead_letter_pkey; message_task_idx, then dead_letter_pkey. Locks: none.
#: Which message is meant. 1 message ids, 2 task ids. Rows: message id, task id.
IDENTIFY = Statement(
    "identify_dead",
    """SELECT m.id, m.task_id
  FROM (SELECT message_id FROM {s}.dead_letter WHERE message_id = ANY ($1::bigint[])
        UNION
        SELECT x.message_id FROM {s}.message m JOIN {s}.dead_letter x ON x.message_id = m.id
         WHERE m.task_id = ANY ($2::text[])) AS meant
  JOIN {s}.message m ON m.id = meant.message_id
 ORDER BY m.id""",
)

# Index: dead_letter_pkey, message_pkey. Locks: none.
#: Everything about some. 1 message ids. Rows: as LIST, then content type and encoding, headers, properties,
#: body.
READ = Statement(
    "read_dead",
    f"""SELECT {_COLUMNS}, m.content_type, m.content_encoding, m.headers, m.properties, m.body
  FROM {{s}}.dead_letter x JOIN {{s}}.message m ON m.id = x.message_id
 WHERE x.message_id = ANY ($1::bigint[]) ORDER BY x.died_at DESC, x.message_id DESC""",
)

# Index: queue_pkey; queues are few. Locks: none.
#: The names of the queues into which messages can be put.
QUEUES = Statement("dead_queues", "SELECT name FROM {s}.queue WHERE broadcast_from IS NULL ORDER BY name")

# The same message goes back, to the place that its id gives it, before what was published later. The origin
# is found by its name, so a queue that was deleted and declared again is the same. In another queue than it
# came to, the message gets a uuid of its own, since a copy of the same publish may lie there. What is past
# its time would die again at once, so the time to live begins anew, with the queue's.
#
# Index: dead_letter_pkey, queue_name_key, message_pkey. Locks: the dead letters in the order of their ids,
# their queues against being deleted, their messages. A second session waits, and finds nothing.
#: 1 message ids, 2 into which queue, NULL for the origin, 3 whether Celery's `expires` is taken away.
#: Rows: queue id, NULL where there is no such queue and the message stays dead; its name; Celery's `expires`
#: or NULL; now.
REDRIVE = Statement(
    "redrive",
    """WITH picked AS MATERIALIZED (
    SELECT x.ctid AS row_id, x.message_id, x.deliveries, q.id AS queue_id, q.max_priority, q.message_ttl_ms
      FROM {s}.dead_letter x
      JOIN {s}.queue q ON q.name = coalesce($2::text, x.queue) AND q.broadcast_from IS NULL
     WHERE x.message_id = ANY ($1::bigint[])
     ORDER BY x.message_id FOR UPDATE OF x FOR KEY SHARE OF q
), back AS (
    DELETE FROM {s}.dead_letter WHERE ctid = ANY (ARRAY (SELECT row_id FROM picked))
), moved AS (
    UPDATE {s}.message m
       SET queue_id = p.queue_id,
           uuid = CASE WHEN m.queue_id = p.queue_id THEN m.uuid ELSE gen_random_uuid() END,
           priority = least(m.priority, p.max_priority),
           expires_at = now() + p.message_ttl_ms * interval '1 ms',
           headers = CASE WHEN NOT $3::boolean THEN m.headers
                          ELSE regexp_replace(m.headers, '"expires": "[^"]*"', '"expires": null') END
      FROM picked p WHERE m.id = p.message_id
    RETURNING m.id, m.queue_id, m.priority, m.headers, least(p.deliveries, 1) AS deliveries
), placed AS (
    INSERT INTO {s}.ready (queue_id, priority, message_id, deliveries)
    SELECT queue_id, priority, id, deliveries FROM moved
)
SELECT m.queue_id, (SELECT q.name FROM {s}.queue q WHERE q.id = m.queue_id),
       substring(m.headers FROM '"expires": "([^"]*)"'), now()
  FROM moved m
UNION ALL
SELECT NULL, coalesce($2::text, x.queue), NULL, NULL
  FROM {s}.dead_letter x
 WHERE x.message_id = ANY ($1::bigint[]) AND NOT EXISTS (
    SELECT FROM {s}.queue q WHERE q.name = coalesce($2::text, x.queue) AND q.broadcast_from IS NULL)""",
)

# Index: dead_letter_pkey, message_pkey. Locks: the dead letters in the order of their ids, their messages.
#: 1 message ids. Row: how many there were.
DISCARD = Statement(
    "discard",
    """WITH gone AS (
    DELETE FROM {s}.dead_letter WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.dead_letter WHERE message_id = ANY ($1::bigint[])
         ORDER BY message_id FOR UPDATE))
    RETURNING message_id
), messages AS (
    DELETE FROM {s}.message WHERE id = ANY (ARRAY (SELECT message_id FROM gone))
)
SELECT count(*) FROM gone""",
)

# Index: dead_letter_died_idx from its old end, message_pkey. Locks: the rows that go, skipping those that
# somebody redrives or discards just now.
#: 1 after how many seconds, 2 how many at most. Row: how many went.
TRIM = Statement(
    "trim_dead",
    """WITH gone AS (
    DELETE FROM {s}.dead_letter WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.dead_letter WHERE died_at < now() - $1::float8 * interval '1 s'
         ORDER BY died_at, message_id LIMIT $2::int FOR UPDATE SKIP LOCKED))
    RETURNING message_id
), messages AS (
    DELETE FROM {s}.message WHERE id = ANY (ARRAY (SELECT message_id FROM gone))
)
SELECT count(*) FROM gone""",
)
