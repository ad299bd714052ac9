"""After a lost session: what the database says that a consumer holds."""

from __future__ import annotations

from . import Statement

# Index: unacked_pkey, the range of one consumer. Locks: none; nobody else writes there while it lives.
#: 1 consumer. Rows: message id, delivery number.
LIST_HELD = Statement(
    "list_held", "SELECT message_id, deliveries FROM {s}.unacked WHERE consumer_id = $1::uuid"
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

_ENQUEUED_AT = "timestamptz '2000-01-01 00:00:00+00' + w.enqueued_at * interval '1 microsecond'"

# Index: ready_claim_idx, then message_pkey, one entry for each. Locks: the ready rows taken, skipping those
# that others hold, who then have them. The delivery number is part of the match: what somebody else had in
# between is not ours any more. So is the time: a crash may take a message away that was not on disk yet, and
# with it the memory that its number was given out. The guard is that of CLAIM.
#: Claims again exactly what a crash of the server has put back. 1 consumer, 2 message ids, 3 queue ids,
#: 4 priorities, 5 delivery numbers, 6 when they were enqueued, in microseconds since the year 2000. Rows: the
#: ids that are ours again.
ADOPT = Statement(
    "adopt",
    f"""WITH picked AS (
    DELETE FROM {{s}}.ready WHERE ctid = ANY (ARRAY (
        SELECT r.ctid
          FROM unnest($2::bigint[], $3::bigint[], $4::smallint[], $5::int[], $6::bigint[])
            AS w (message_id, queue_id, priority, deliveries, enqueued_at)
          JOIN {{s}}.ready r ON r.queue_id = w.queue_id AND r.priority = w.priority
           AND r.message_id = w.message_id AND r.deliveries = w.deliveries - 1
          JOIN {{s}}.message m ON m.id = r.message_id AND m.enqueued_at = {_ENQUEUED_AT}
         WHERE (SELECT true FROM {{s}}.consumer WHERE id = $1::uuid)
           FOR UPDATE OF r SKIP LOCKED))
    RETURNING queue_id, priority, message_id, deliveries
), held AS (
    INSERT INTO {{s}}.unacked (consumer_id, message_id, queue_id, priority, deliveries)
    SELECT $1::uuid, message_id, queue_id, priority, deliveries + 1 FROM picked
)
SELECT message_id FROM picked""",
)

# Index: message_pkey. Locks: none.
#: Which of these messages are stored, wherever they lie. 1 ids, 2 when they were enqueued, as above.
FIND_STORED = Statement(
    "find_stored",
    f"""SELECT m.id FROM unnest($1::bigint[], $2::bigint[]) AS w (message_id, enqueued_at)
  JOIN {{s}}.message m ON m.id = w.message_id AND m.enqueued_at = {_ENQUEUED_AT}""",
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
