"""After a lost session: what the database says that a consumer holds."""

from __future__ import annotations

from . import Statement

# Index: unacked_pkey, the range of one consumer; message_pkey. Locks: none; nobody else writes there while it
# lives.
#: 1 consumer. Rows: message id, when it was enqueued, delivery number, queue id, priority.
LIST_HELD = Statement(
    "list_held",
    """SELECT u.message_id, m.enqueued_at, u.deliveries, u.queue_id, u.priority
  FROM {s}.unacked u JOIN {s}.message m ON m.id = u.message_id WHERE u.consumer_id = $1::uuid""",
)

# Index: unacked_pkey, then message_pkey. Locks: none.
#: The content of what was claimed, for a consumer that has not had the answer to its claim. 1 consumer,
#: 2 message ids. Rows as those of CLAIM.
READ_HELD = Statement(
    "read_held",
    """SELECT u.message_id, u.queue_id, u.priority, u.deliveries, m.expires_at <= now(), m.enqueued_at,
       m.exchange, m.routing_key, m.content_type, m.content_encoding, m.headers, m.properties, m.body
  FROM {s}.unacked u JOIN {s}.message m ON m.id = u.message_id
 WHERE u.consumer_id = $1::uuid AND u.message_id = ANY ($2::bigint[])""",
)

# A crash may take a message away that was not on disk yet, and with it the memory that its number was given
# out: the time is part of every match.
_KEYS = """(
    SELECT k.*, m.enqueued_at, m.task_id
      FROM unnest($2::bigint[], $3::bigint[], $4::int[], $5::bigint[], $6::smallint[])
        AS k (message_id, microseconds, deliveries, queue_id, priority)
      JOIN {s}.message m ON m.id = k.message_id
       AND m.enqueued_at = timestamptz '2000-01-01 00:00:00+00' + k.microseconds * interval '1 microsecond'
)"""

# In its own place with fewer deliveries: since a crash, or because we had released it before that. What
# somebody else had in between has as many. The guard is that of CLAIM.
_READY_AGAIN = """ARRAY (
        SELECT r.ctid FROM stored JOIN {s}.ready r ON r.queue_id = stored.queue_id
           AND r.priority = stored.priority AND r.message_id = stored.message_id
           AND r.deliveries < stored.deliveries
         WHERE (SELECT true FROM {s}.consumer WHERE id = $1::uuid)
           FOR UPDATE OF r SKIP LOCKED)"""

# Index: message_pkey, then ready_claim_idx and unacked_pkey, one entry for each. Locks: the ready rows taken,
# skipping those that others hold, who then have them; the rows of this consumer.
#: Claims again what a crash of the server has put back, with the same delivery numbers. 1 consumer, 2 message
#: ids, 3 when they were enqueued, in microseconds since the year 2000, 4 delivery numbers, 5 queue ids,
#: 6 priorities. A row for each that is stored: id, when it was enqueued, its task, whether it is ours again.
ADOPT = Statement(
    "adopt",
    f"""WITH stored AS {_KEYS}, picked AS (
    DELETE FROM {{s}}.ready WHERE ctid = ANY ({_READY_AGAIN}) RETURNING message_id
), held AS (
    INSERT INTO {{s}}.unacked (consumer_id, message_id, queue_id, priority, deliveries)
    SELECT $1::uuid, message_id, queue_id, priority, deliveries FROM stored
     WHERE message_id IN (SELECT message_id FROM picked)
), raised AS (
    UPDATE {{s}}.unacked u SET deliveries = stored.deliveries FROM stored
     WHERE u.consumer_id = $1::uuid AND u.message_id = stored.message_id AND u.deliveries < stored.deliveries
    RETURNING u.message_id
), ours AS (
    SELECT message_id FROM picked UNION ALL SELECT message_id FROM raised
)
SELECT message_id, enqueued_at, task_id, message_id IN (SELECT message_id FROM ours) FROM stored""",
)

# Index: message_pkey, then unacked_pkey and ready_claim_idx, one entry for each. Locks: as above.
#: Acknowledges again what a crash has brought back, to this consumer or to the queue. Parameters and rows as
#: those of ADOPT; the flag tells whether it is gone again.
FINISH = Statement(
    "finish",
    f"""WITH stored AS {_KEYS}, held AS (
    DELETE FROM {{s}}.unacked
     WHERE consumer_id = $1::uuid AND message_id = ANY (ARRAY (SELECT message_id FROM stored))
    RETURNING message_id
), picked AS (
    DELETE FROM {{s}}.ready WHERE ctid = ANY ({_READY_AGAIN}) RETURNING message_id
), finished AS (
    SELECT message_id FROM held UNION ALL SELECT message_id FROM picked
), gone AS (
    DELETE FROM {{s}}.message WHERE id = ANY (ARRAY (SELECT message_id FROM finished))
)
SELECT message_id, enqueued_at, task_id, message_id IN (SELECT message_id FROM finished) FROM stored""",
)

# Index: consumer_queue_pkey; queue_pkey. Locks: the rows of one consumer.
#: Makes the list of what a consumer reads what it should be: a subscription may have come or gone without
#: an answer. 1 consumer, 2 tags, 3 queue ids, 4 no_ack, 5 exclusive.
ENROL = Statement(
    "enrol",
    """WITH wanted AS (
    SELECT w.* FROM unnest($2::text[], $3::bigint[], $4::boolean[], $5::boolean[])
        AS w (tag, queue_id, no_ack, exclusive) JOIN {s}.queue q ON q.id = w.queue_id
), gone AS (
    DELETE FROM {s}.consumer_queue WHERE consumer_id = $1::uuid AND tag <> ALL ($2::text[])
)
INSERT INTO {s}.consumer_queue (consumer_id, tag, queue_id, no_ack, exclusive)
SELECT $1::uuid, tag, queue_id, no_ack, exclusive FROM wanted ON CONFLICT DO NOTHING""",
)
