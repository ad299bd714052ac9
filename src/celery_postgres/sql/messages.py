"""Messages: publish, claim, ack, release, reject, promote, purge, count."""

from __future__ import annotations

from . import Statement

# Parameters of both publish statements: 1 uuid, 2 exchange, 3 routing key, 4 priority, 5 time to live in
# ms or NULL, 6 task name, 7 task id, 8 content type, 9 content encoding, 10 headers, 11 properties,
# 12 body, 13 due at or NULL, 14 synchronous_commit for this transaction.
#
# Index: queue_name_key. Locks: only the new rows, so publishers never wait for each other; the same uuid
# published twice at once: the second waits for the first to commit and then stores nothing.
# `synchronous_commit` is read at commit time, so setting it anywhere in the statement is early enough,
# and it holds through a transaction pooler and against any default of the role.
_STORE = """
, stored AS (
    INSERT INTO {s}.message (uuid, queue_id, priority, expires_at, exchange, routing_key, task, task_id,
                             content_type, content_encoding, headers, properties, body)
    SELECT $1::uuid, id, least($4::smallint, max_priority),
           now() + least($5::bigint, message_ttl_ms) * interval '1 ms',
           $2, $3, $6::text, $7::text, $8::text, $9::text, $10::text, $11::text, $12::bytea
      FROM target WHERE NOT broadcast{new}
    ON CONFLICT (uuid, queue_id) DO NOTHING
    RETURNING id, queue_id, priority
)"""

_PLACED = """, due AS (
    SELECT $13::timestamptz AS due_at WHERE $13::timestamptz > clock_timestamp()
), held AS (
    INSERT INTO {s}.delayed (due_at, message_id, queue_id, priority, deliveries)
    SELECT due.due_at, stored.id, stored.queue_id, stored.priority, 0 FROM stored, due
), placed AS (
    INSERT INTO {s}.ready (queue_id, priority, message_id, deliveries)
    SELECT queue_id, priority, id, 0 FROM stored WHERE NOT EXISTS (SELECT FROM due)
)"""
_IS_HELD = "EXISTS (SELECT FROM due)"

# A table that a statement might write is opened each time, a sixth of what a publish takes. So there is a
# statement for what is not held for later, which is nearly everything.
_PLACED_NOW = """, placed AS (
    INSERT INTO {s}.ready (queue_id, priority, message_id, deliveries)
    SELECT queue_id, priority, id, 0 FROM stored
)"""
_IS_HELD_NOW = "$13::timestamptz IS NOT NULL"

_LOGGED = """, logged AS (
    INSERT INTO {s}.broadcast (expires_at, exchange, routing_key, content_type, content_encoding, headers,
                               properties, body)
    SELECT now() + least($5::bigint, (SELECT nullif(max(coalesce(message_ttl_ms, 2^53::bigint)), 2^53::bigint)
                                        FROM target WHERE broadcast)) * interval '1 ms',
           $2, $3, $8::text, $9::text, $10::text, $11::text, $12::bytea
     WHERE EXISTS (SELECT FROM target WHERE broadcast){new}
)"""

# Of a publish that leaves a trace for its own retry. Index: published_pkey. Locks: the new row; the same uuid
# published twice at once: the second waits for the first to commit, and then finds it.
_TRACED = """traced AS (
    INSERT INTO {s}.published (uuid) VALUES ($1::uuid) ON CONFLICT DO NOTHING RETURNING uuid
), """
_IF_TRACED = " AND EXISTS (SELECT FROM traced)"

#: How the transaction of a publish commits. Evaluated with the statement, read at its commit.
COMMITS = "set_config('synchronous_commit', $14::text, true)"

_TARGET = (
    "q.id, q.broadcast_from IS NOT NULL AS broadcast, q.max_priority, q.message_ttl_ms, q.name, "
    "coalesce(q.max_length, q.max_length_bytes) IS NOT NULL AS limited"
)

# Of a copy, beside those: 15 consumer, 16 message id, 17 its delivery number. It is made only of what the
# consumer holds, and that is locked until the consumer rejects it, later in the same transaction.
_COPIED = """copied AS MATERIALIZED (
    SELECT message_id FROM {s}.unacked
     WHERE consumer_id = $15::uuid AND message_id = $16::bigint AND deliveries = $17::int FOR UPDATE
), """
_IF_COPIED = " AND EXISTS (SELECT FROM copied)"


def _stored(new: str, *, now: bool) -> tuple[str, str]:
    """What stores a message, and what tells whether it is held for later."""
    text = _STORE + (_PLACED_NOW if now else _PLACED) + _LOGGED
    return text.replace("{new}", new), _IS_HELD_NOW if now else _IS_HELD


def _to_queue(
    name: str, before: str = "", condition: str = "", new: str = "", *, now: bool = False
) -> Statement:
    stored, is_held = _stored(new, now=now)
    return Statement(
        name,
        f"WITH {before}target AS ("
        f"SELECT {_TARGET} FROM {{s}}.queue q WHERE q.name = $3::text AND $2::text = ''{condition})"
        + stored
        + f"""
SELECT id, broadcast, limited, {COMMITS}, name,
       {is_held} FROM target""",
    )


_EXCHANGE = f"""exchange AS (
    SELECT name, type FROM {{{{s}}}}.exchange WHERE name = $2::text{{condition}}
), target AS (
    SELECT {_TARGET} FROM exchange e
      JOIN {{{{s}}}}.binding b ON b.exchange = e.name AND b.routing_key = $3::text
      JOIN {{{{s}}}}.queue q ON q.id = b.queue_id WHERE e.type = 'direct'
    UNION
    SELECT {_TARGET} FROM exchange e
      JOIN {{{{s}}}}.binding b ON b.exchange = e.name AND (e.type = 'fanout' OR $3::text ~ b.pattern)
      JOIN {{{{s}}}}.queue q ON q.id = b.queue_id WHERE e.type <> 'direct'
)"""


def _to_exchange(
    name: str, before: str = "", condition: str = "", new: str = "", *, now: bool = False
) -> Statement:
    stored, is_held = _stored(new, now=now)
    return Statement(
        name,
        f"WITH {before}"
        + _EXCHANGE.format(condition=condition)
        + stored
        + f"""
SELECT NULL::bigint AS id, NULL::boolean, NULL::boolean,
       (SELECT name FROM exchange) || {COMMITS}, NULL, NULL::boolean
UNION ALL
SELECT id, broadcast, limited, NULL, name, {is_held} FROM target""",
    )


#: To the default exchange, which routes to the queue of that name: what is due now, and what is due later.
#: Row: queue id, broadcast, limited, nothing of interest, name, whether it is held for later.
PUBLISH_TO_QUEUE = _to_queue("publish_to_queue", now=True)
PUBLISH_LATER_TO_QUEUE = _to_queue("publish_later_to_queue")

# Index: exchange_pkey, then binding_pkey: one entry for a direct exchange, all of the exchange's for
# topic and fanout. UNION removes the second way to the same queue, as AMQP demands.
#: To a named exchange. First row: NULLs, its fourth column says whether the exchange exists.
PUBLISH = _to_exchange("publish", now=True)
PUBLISH_LATER = _to_exchange("publish_later")

# Index: as above. Locks: none.
#: Where it would go. 1 anything, 2 exchange, 3 routing key. Rows: names of queues.
ROUTES = Statement(
    "routes", f"WITH {_EXCHANGE.format(condition='')} SELECT name FROM target WHERE $1::text IS NULL"
)

#: The same, stored only if this uuid has not been published before, whatever became of it. The rows are those
#: of where it goes, or went.
PUBLISH_ONCE_TO_QUEUE = _to_queue("publish_once_to_queue", _TRACED, new=_IF_TRACED)
PUBLISH_ONCE = _to_exchange("publish_once", _TRACED, new=_IF_TRACED)

# Index: unacked_pkey, then as above. Locks: the delivery.
#: The same for the copy of a message that is dead-lettered.
COPY_TO_QUEUE = _to_queue("copy_to_queue", _COPIED, _IF_COPIED)
COPY = _to_exchange("copy", _COPIED, _IF_COPIED)


def _claim(name: str, places: str, condition: str, order: str, *more: str) -> Statement:
    """`places` are where to look, as `q`; `condition` and `order` are those of the rows in one of them."""
    return Statement(
        name,
        f"""WITH picked AS (
    DELETE FROM {{s}}.ready WHERE ctid = ANY (ARRAY (
        SELECT r.row_id FROM {places}
         CROSS JOIN LATERAL (
            SELECT ctid AS row_id FROM {{s}}.ready WHERE {condition}
             ORDER BY {order} LIMIT $3::int FOR UPDATE SKIP LOCKED) AS r
         WHERE (SELECT true FROM {{s}}.consumer WHERE id = $1::uuid)
         LIMIT $3::int))
    RETURNING queue_id, priority, message_id, deliveries
), held AS (
    INSERT INTO {{s}}.unacked (consumer_id, message_id, queue_id, priority, deliveries)
    SELECT $1::uuid, message_id, queue_id, priority, deliveries + 1 FROM picked
)
SELECT {", ".join((_CLAIMED, *more))}
  FROM picked p JOIN {{s}}.message m ON m.id = p.message_id""",
    )


_CLAIMED = (
    "p.message_id, p.queue_id, p.priority, p.deliveries + 1, m.expires_at <= now(), m.enqueued_at,\n"
    "       m.exchange, m.routing_key, m.content_type, m.content_encoding, m.headers, m.properties, m.body"
)

# Of the look alone: it has ended before the first row is deleted, with which the subselect is evaluated.
_LOOKED_FOR = (
    "\n       (SELECT 1000000 * date_part('epoch', clock_timestamp() - statement_timestamp()))::bigint"
)

# Index: ready_claim_idx, read in its order per queue, so cost does not grow with the backlog; then
# message_pkey. Locks: the ready rows taken, skipping those that others hold; a second session takes the
# next ones. The guard makes a consumer that was declared dead claim nothing. Rows return in no promised
# order. Queues come in the caller's order and the outer LIMIT stops pulling: no row is locked in vain.
#: 1 consumer, 2 queue ids in order of turn, 3 how many at most. The last column, the same in each row, is how
#: long it looked for them, in microseconds.
CLAIM = _claim(
    "claim",
    "unnest($2::bigint[]) AS q (id)",
    "queue_id = q.id",
    "priority DESC, message_id",
    _LOOKED_FOR,
)

# Index and locks: those of CLAIM. What has been deleted since some transaction began stays in the index in
# front of what waits, and CLAIM passes over all of it; this begins behind it.
#: The same, of some lanes alone, and in each of them from a message on; without the last column.
#: 1 consumer, 2 their queue ids in order of turn, 3 how many at most, 4 their priorities, 5 the message ids.
CLAIM_BEHIND = _claim(
    "claim_behind",
    "unnest($2::bigint[], $4::smallint[], $5::bigint[]) AS q (id, priority, beginning)",
    "queue_id = q.id AND priority = q.priority AND message_id >= q.beginning",
    "message_id",
)

# The delivery number is part of the match: an acknowledgement of an earlier delivery changes nothing.
_SETTLED = """WITH settled AS (
    DELETE FROM {s}.unacked
     WHERE consumer_id = $1::uuid AND message_id = ANY ($2::bigint[])
       AND deliveries = ($3::int[])[array_position($2::bigint[], message_id)]
    RETURNING message_id, queue_id, priority, deliveries
)"""

# Index: unacked_pkey, message_pkey. Locks: rows of one consumer, which nobody else settles.
#: 1 consumer, 2 message ids, 3 their delivery numbers. Row: ids that matched, NULL when all did.
ACK = Statement(
    "ack",
    _SETTLED
    + """
, gone AS (DELETE FROM {s}.message WHERE id = ANY (ARRAY (SELECT message_id FROM settled)))
SELECT CASE WHEN count(*) < cardinality($2::bigint[]) THEN coalesce(array_agg(message_id)::text, '{}') END
  FROM settled""",
)

# Index: unacked_pkey. The message returns to its own place: same id, same priority, no new routing.
#: As ACK; rows: the queues that have something to claim again.
RELEASE = Statement(
    "release",
    _SETTLED
    + """
, placed AS (
    INSERT INTO {s}.ready (queue_id, priority, message_id, deliveries)
    SELECT queue_id, priority, message_id, deliveries FROM settled
)
SELECT DISTINCT queue_id FROM settled""",
)

# Index: unacked_pkey, message_pkey; num_nonnulls keeps the planner from walking through message_expiry_idx.
#: As ACK; 4 the reason, 5 whether the payload is kept in dead_letter.
REJECT = Statement(
    "reject",
    _SETTLED
    + """
, kept AS (
    INSERT INTO {s}.dead_letter (message_id, queue, reason, deliveries)
    SELECT s.message_id, q.name, $4::text, s.deliveries
      FROM settled s LEFT JOIN {s}.queue q ON q.id = s.queue_id WHERE $5::boolean
), timeless AS (
    UPDATE {s}.message SET expires_at = NULL
     WHERE num_nonnulls(expires_at) = 1
       AND id = ANY (ARRAY (SELECT message_id FROM settled WHERE $5::boolean))
), gone AS (
    DELETE FROM {s}.message WHERE id = ANY (ARRAY (SELECT message_id FROM settled WHERE NOT $5::boolean))
)
SELECT message_id FROM settled""",
)

# Index: delayed_pkey from its low end. Locks: the due rows, skipping those that others hold.
#: 1 how many at most. Row: queue ids as text array, how many.
PROMOTE = Statement(
    "promote",
    """WITH due AS (
    DELETE FROM {s}.delayed WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.delayed WHERE due_at <= now()
         ORDER BY due_at, message_id LIMIT $1::int FOR UPDATE SKIP LOCKED))
    RETURNING message_id, queue_id, priority, deliveries
), placed AS (
    INSERT INTO {s}.ready (queue_id, priority, message_id, deliveries)
    SELECT queue_id, priority, message_id, deliveries FROM due
)
SELECT array_agg(DISTINCT queue_id)::text, count(*) FROM due""",
)

# Index: published_at_idx from its low end. Locks: the rows that go, passing over those that others hold.
#: 1 how old, in seconds, a trace may become, 2 how many at most. Row: how many went.
FORGET_PUBLISHED = Statement(
    "forget_published",
    """WITH gone AS (
    DELETE FROM {s}.published WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {s}.published WHERE published_at < now() - $1::float8 * interval '1 s'
         ORDER BY published_at LIMIT $2::int FOR UPDATE SKIP LOCKED))
    RETURNING true
)
SELECT count(*) FROM gone""",
)

# Index: delayed_pkey and message_expiry_idx, one entry of each.
#: Milliseconds until the next message is due or past its time, negative when it is; NULL when none will be.
NEXT_DUE = Statement(
    "next_due",
    """SELECT (1000 * extract(epoch FROM least(
    (SELECT min(due_at) FROM {s}.delayed),
    (SELECT min(expires_at) FROM {s}.message WHERE expires_at > now())) - clock_timestamp()))::bigint""",
)

# Index: delayed_pkey in its order. Locks: none.
#: What is held for later in some queues, the next due first. 1 queue ids, 2 how many at most, 3 up to which
#: size in bytes a body of JSON is looked at.
HELD = Statement(
    "held",
    """SELECT m.task, m.task_id, m.headers, m.properties, m.exchange, m.routing_key, d.deliveries > 0,
    CASE WHEN m.content_type = 'application/json' AND octet_length(m.body) <= $3::int THEN m.body END
  FROM {s}.delayed d JOIN {s}.message m ON m.id = d.message_id
 WHERE d.queue_id = ANY ($1::bigint[]) ORDER BY d.due_at, d.message_id LIMIT $2::int""",
)

# Index: ready_claim_idx; delayed is read whole, which is rare enough. Locks: the rows that go.
#: 1 queue id. Row: how many waiting messages were removed, delayed ones included, unacked ones not.
PURGE = Statement(
    "purge",
    """WITH waiting AS (
    DELETE FROM {s}.ready WHERE queue_id = $1::bigint RETURNING message_id
), held AS (
    DELETE FROM {s}.delayed WHERE queue_id = $1::bigint RETURNING message_id
), ids AS (
    SELECT message_id FROM waiting UNION ALL SELECT message_id FROM held
), gone AS (
    DELETE FROM {s}.message WHERE id IN (SELECT message_id FROM ids)
)
SELECT count(*) FROM ids""",
)

# Index: ready_claim_idx, index only; message_expiry_idx for those whose time is over, which nobody has swept
# yet. They may be among the rows counted or not, so as many more are counted.
#: 1 queue id, 2 where to stop counting.
COUNT = Statement(
    "count",
    """WITH over AS (
    SELECT count((
        SELECT true FROM {s}.ready r
         WHERE r.queue_id = m.queue_id AND r.priority = m.priority AND r.message_id = m.id)) AS number
      FROM {s}.message m WHERE m.expires_at <= now() AND m.queue_id = $1::bigint
)
SELECT count(*) - (SELECT number FROM over) FROM (
    SELECT FROM {s}.ready WHERE queue_id = $1::bigint
     LIMIT $2::bigint + (SELECT number FROM over)) AS waiting""",
)

_CONTENT = "m.exchange, m.routing_key, m.content_type, m.content_encoding, m.headers, m.properties, m.body"

# Reads the whole queue, which its limit keeps short. Locks: the rows taken.
#: Takes what is too much from the head of a queue, oldest first (AMQP: drop-head), as a claim does.
#: 1 consumer, 2 queue id, 3 x-max-length, 4 x-max-length-bytes.
CLAIM_EXCESS = Statement(
    "claim_excess",
    f"""WITH line AS MATERIALIZED (
    SELECT ctid AS row_id, message_id,
           (SELECT octet_length(m.body) FROM {{s}}.message m WHERE m.id = message_id) AS size
      FROM {{s}}.ready WHERE queue_id = $2::bigint
), waiting AS (
    SELECT row_id, row_number() OVER newest AS number, sum(size) OVER newest AS bytes
      FROM line WINDOW newest AS (ORDER BY message_id DESC)
), picked AS (
    DELETE FROM {{s}}.ready WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {{s}}.ready WHERE ctid IN (
            SELECT row_id FROM waiting WHERE number > $3::bigint OR bytes > $4::bigint)
           FOR UPDATE SKIP LOCKED))
    RETURNING queue_id, priority, message_id, deliveries
), held AS (
    INSERT INTO {{s}}.unacked (consumer_id, message_id, queue_id, priority, deliveries)
    SELECT $1::uuid, message_id, queue_id, priority, deliveries FROM picked
)
SELECT p.message_id, p.queue_id, p.priority, p.deliveries, true, m.enqueued_at, {_CONTENT}
  FROM picked p JOIN {{s}}.message m ON m.id = p.message_id""",
)

# Index: message_expiry_idx from its low end. Locks: the rows taken, skipping those that others hold.
#: Takes waiting messages past their time, as a claim does. 1 consumer, 2 how many at most.
CLAIM_EXPIRED = Statement(
    "claim_expired",
    f"""WITH picked AS (
    DELETE FROM {{s}}.ready WHERE ctid = ANY (ARRAY (
        SELECT r.ctid FROM {{s}}.message m JOIN {{s}}.ready r
            ON r.queue_id = m.queue_id AND r.priority = m.priority AND r.message_id = m.id
         WHERE m.expires_at <= now() ORDER BY m.expires_at LIMIT $2::int FOR UPDATE OF r SKIP LOCKED))
    RETURNING queue_id, priority, message_id, deliveries
), held AS (
    INSERT INTO {{s}}.unacked (consumer_id, message_id, queue_id, priority, deliveries)
    SELECT $1::uuid, message_id, queue_id, priority, deliveries FROM picked
)
SELECT p.message_id, p.queue_id, p.priority, p.deliveries, true, m.enqueued_at, {_CONTENT}
  FROM picked p JOIN {{s}}.message m ON m.id = p.message_id""",
)
