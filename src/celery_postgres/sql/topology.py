"""Exchanges, queues and bindings."""

from __future__ import annotations

from . import Statement

# Index: exchange_pkey. A second session declaring the same waits for the first and then finds it.
#: 1 name, 2 type, 3 durable, 4 auto_delete, 5 arguments. No row when it existed.
DECLARE_EXCHANGE = Statement(
    "declare_exchange",
    """INSERT INTO {s}.exchange (name, type, durable, auto_delete, arguments)
VALUES ($1::text, $2::text, $3::boolean, $4::boolean, $5::text)
ON CONFLICT (name) DO NOTHING RETURNING name""",
)

FIND_EXCHANGE = Statement(
    "find_exchange",
    "SELECT type, durable, auto_delete, arguments FROM {s}.exchange WHERE name = $1::text",
)

#: 1 name, 2 only if it has no binding. Rows: did it exist, was it deleted.
DELETE_EXCHANGE = Statement(
    "delete_exchange",
    """WITH gone AS (
    DELETE FROM {s}.exchange WHERE name = $1::text
       AND NOT ($2::boolean AND EXISTS (SELECT FROM {s}.binding WHERE exchange = $1::text))
    RETURNING name
)
SELECT EXISTS (SELECT FROM {s}.exchange WHERE name = $1::text), EXISTS (SELECT FROM gone)""",
)

_QUEUE = """id, durable, auto_delete, exclusive, holder::text, arguments, message_ttl_ms, expires_ms,
    max_length, max_length_bytes, dead_letter_exchange, dead_letter_routing_key, broadcast_from"""

# Index: queue_name_key.
#: 1 name, 2 durable, 3 auto_delete, 4 exclusive, 5 holder, 6 arguments, 7 message ttl ms, 8 expires ms,
#: 9 max length, 10 max length bytes, 11 max priority, 12 dead letter exchange, 13 its routing key,
#: 14 broadcast.
DECLARE_QUEUE = Statement(
    "declare_queue",
    f"""INSERT INTO {{s}}.queue (name, durable, auto_delete, exclusive, holder, arguments, message_ttl_ms,
    expires_ms, max_length, max_length_bytes, max_priority, dead_letter_exchange, dead_letter_routing_key,
    broadcast_from)
VALUES ($1::text, $2::boolean, $3::boolean, $4::boolean, $5::uuid, $6::text, $7::bigint, $8::bigint,
    $9::bigint, $10::bigint, $11::smallint, $12::text, $13::text,
    CASE WHEN $14::boolean THEN pg_current_snapshot()::text END)
ON CONFLICT (name) DO NOTHING RETURNING {_QUEUE}""",
)

#: 1 name. The queue, how many consume it, and whether its x-expires is over.
FIND_QUEUE = Statement(
    "find_queue",
    f"""SELECT {_QUEUE}, (SELECT count(*) FROM {{s}}.consumer_queue c WHERE c.queue_id = q.id),
       coalesce(used_at + expires_ms * interval '1 ms' < now(), false)
  FROM {{s}}.queue q WHERE name = $1::text""",
)

FIND_OWN_QUEUES = Statement(
    "find_own_queues", "SELECT id FROM {s}.queue WHERE holder = $1::uuid AND exclusive"
)
QUEUE_NAME = Statement("queue_name", "SELECT name FROM {s}.queue WHERE id = $1::bigint")

# A write only where it is worth one: x-expires counts from the last use.
#: 1 queue ids.
TOUCH_QUEUES = Statement(
    "touch_queues",
    "UPDATE {s}.queue SET used_at = now() WHERE id = ANY ($1::bigint[]) AND expires_ms IS NOT NULL",
)

# Index: exchange_pkey, queue_name_key. The key-share locks of the foreign keys keep both from vanishing.
#: 1 exchange, 2 routing key, 3 queue name, 4 the topic pattern as a regular expression.
#: Row: whether the exchange, whether the queue exists.
BIND = Statement(
    "bind",
    """WITH bound AS (
    INSERT INTO {s}.binding (exchange, routing_key, queue_id, pattern)
    SELECT e.name, $2::text, q.id, CASE e.type WHEN 'topic' THEN $4::text END
      FROM {s}.exchange e, {s}.queue q WHERE e.name = $1::text AND q.name = $3::text
    ON CONFLICT DO NOTHING
)
SELECT EXISTS (SELECT FROM {s}.exchange WHERE name = $1::text),
       EXISTS (SELECT FROM {s}.queue WHERE name = $3::text)""",
)

# Who binds to an exchange that deletes itself holds a key-share lock of it until he has committed. Whoever
# takes a binding away waits for that, and then counts the bindings with a snapshot that sees his.
#: 1 exchange.
LOCK_EXCHANGE = Statement(
    "lock_exchange", "SELECT FROM {s}.exchange WHERE name = $1::text AND auto_delete FOR UPDATE"
)

#: The same for the exchanges of a queue's bindings, in their order. 1 queue id.
LOCK_EXCHANGES_OF = Statement(
    "lock_exchanges_of",
    """SELECT FROM {s}.exchange WHERE auto_delete
   AND name IN (SELECT exchange FROM {s}.binding WHERE queue_id = $1::bigint) ORDER BY name FOR UPDATE""",
)

#: 1 exchange, 2 routing key, 3 queue name. Runs after LOCK_EXCHANGE in the same transaction.
UNBIND = Statement(
    "unbind",
    """WITH unbound AS (
    DELETE FROM {s}.binding WHERE exchange = $1::text AND routing_key = $2::text
       AND queue_id = (SELECT id FROM {s}.queue WHERE name = $3::text)
    RETURNING exchange
)
DELETE FROM {s}.exchange e WHERE e.auto_delete AND e.name IN (SELECT exchange FROM unbound)
   AND (SELECT count(*) FROM {s}.binding b WHERE b.exchange = e.name) <= 1""",
)

LIST_BINDINGS = Statement(
    "list_bindings",
    """SELECT b.exchange, b.routing_key, q.name FROM {s}.binding b JOIN {s}.queue q ON q.id = b.queue_id
 ORDER BY b.exchange, b.routing_key, q.name""",
)

# Who consumes a queue and who deletes it go one after the other: the second takes its snapshot with the lock
# in hand, and sees what the first has done. Index: queue_pkey. Locks: the queue, against neither publishers
# nor bindings.
#: 1 queue id. No row: the queue is gone.
LOCK_QUEUE = Statement("lock_queue", "SELECT FROM {s}.queue WHERE id = $1::bigint FOR NO KEY UPDATE")

# Index: queue_pkey; binding and consumer_queue by their queue index (foreign keys); ready_claim_idx. unacked
# and delayed are read whole, which is rare enough: not for a queue of the broadcast log, which has no rows
# there and goes with every client that asked for a reply. Runs after LOCK_QUEUE in the same transaction, so
# that it sees who consumes. Locks: a delivery that is being settled just now is left to who settles it.
# Exchanges that delete themselves go with their last binding: runs after LOCK_EXCHANGES_OF, too.
#: 1 queue id, 2 only if nobody consumes it, 3 only if nothing is ready.
#: Row: was it deleted, how many ready messages went.
DELETE_QUEUE = Statement(
    "delete_queue",
    """WITH gone AS (
    DELETE FROM {s}.queue WHERE id = $1::bigint
       AND NOT ($2::boolean AND EXISTS (SELECT FROM {s}.consumer_queue WHERE queue_id = $1::bigint))
       AND NOT ($3::boolean AND EXISTS (SELECT FROM {s}.ready WHERE queue_id = $1::bigint))
    RETURNING id, broadcast_from IS NULL AS of_rows
), waiting AS (
    DELETE FROM {s}.ready WHERE queue_id = (SELECT id FROM gone) RETURNING message_id
), held AS (
    DELETE FROM {s}.delayed WHERE (SELECT of_rows FROM gone) AND queue_id = (SELECT id FROM gone)
    RETURNING message_id
), claimed AS (
    DELETE FROM {s}.unacked WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.unacked WHERE (SELECT of_rows FROM gone) AND queue_id = (SELECT id FROM gone)
           FOR UPDATE SKIP LOCKED))
    RETURNING message_id
), messages AS (
    DELETE FROM {s}.message WHERE id IN (
        SELECT message_id FROM waiting UNION ALL SELECT message_id FROM held
        UNION ALL SELECT message_id FROM claimed)
), exchanges AS (
    DELETE FROM {s}.exchange e WHERE e.auto_delete
       AND EXISTS (SELECT FROM {s}.binding b, gone WHERE b.exchange = e.name AND b.queue_id = gone.id)
       AND NOT EXISTS (SELECT FROM {s}.binding b, gone WHERE b.exchange = e.name AND b.queue_id <> gone.id)
)
SELECT EXISTS (SELECT FROM gone), (SELECT count(*) FROM waiting)""",
)
