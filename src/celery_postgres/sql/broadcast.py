"""The broadcast log: one row per publish, however many receive it; every receiver has a cursor."""

from __future__ import annotations

from . import Statement

#: The snapshot of who has seen nothing.
NOTHING = "1:1:"

# A lower id can become visible after a higher one, so the cursor is not an id but a snapshot: what the
# present snapshot sees and the last one did not see is new. Index: broadcast_xid_idx from the oldest
# transaction that the last snapshot did not see the end of. Locks: none.
# A crash, or a promotion, may give out again the numbers of transactions that were not on disk. It empties
# the log, too: to whom has seen the future, all that is there is new.
# The row without an id is the present snapshot, with which the caller reads the next time; when a page comes
# back full, the rest is read between the two snapshots, after its last row. An entry has a row for each
# queue, so a page may end between two of them.
#: 1 queue ids, 2 their last snapshots, 3 upper snapshot or NULL, 4 xid, 5 id and 6 queue id after which to go
#: on, 7 how many rows. Row with queue id NULL: the present snapshot.
READ = Statement(
    "read_broadcast",
    f"""WITH reader AS (
    SELECT r.queue_id, q.name,
           CASE WHEN pg_snapshot_xmax(r.seen::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot())
                THEN '{NOTHING}' ELSE r.seen END::pg_snapshot AS seen
      FROM unnest($1::bigint[], $2::text[]) AS r (queue_id, seen)
      JOIN {{s}}.queue q ON q.id = r.queue_id
), entry AS (
    SELECT b.xid, b.id, reader.queue_id, b.exchange, b.routing_key, b.content_type, b.content_encoding,
           b.headers, b.properties, b.body
      FROM {{s}}.broadcast b, reader
     WHERE b.xid >= (SELECT pg_snapshot_xmin(seen) FROM reader ORDER BY 1 LIMIT 1)
       AND b.xid >= pg_snapshot_xmin(reader.seen) AND NOT pg_visible_in_snapshot(b.xid, reader.seen)
       AND ($3::text IS NULL OR pg_visible_in_snapshot(b.xid, $3::text::pg_snapshot))
       AND b.xid >= $4::text::xid8
       AND (b.xid, b.id, reader.queue_id) > ($4::text::xid8, $5::bigint, $6::bigint)
       AND (b.expires_at IS NULL OR b.expires_at > now())
       AND CASE WHEN b.exchange = '' THEN b.routing_key = reader.name
           ELSE EXISTS (
            SELECT FROM {{s}}.exchange e JOIN {{s}}.binding t ON t.exchange = e.name
             WHERE e.name = b.exchange AND t.queue_id = reader.queue_id
               AND CASE e.type WHEN 'fanout' THEN true WHEN 'direct' THEN t.routing_key = b.routing_key
                   ELSE b.routing_key ~ t.pattern END) END
     ORDER BY b.xid, b.id, reader.queue_id LIMIT $7::int
)
SELECT pg_current_snapshot()::text, NULL::bigint, NULL::bigint, NULL, NULL, NULL, NULL, NULL, NULL, NULL
UNION ALL
(SELECT xid::text, id, queue_id, exchange, routing_key, content_type, content_encoding, headers,
        properties, body FROM entry ORDER BY entry.xid, entry.id, entry.queue_id)""",
)
