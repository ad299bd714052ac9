"""A database with a long backlog, made in a few seconds."""

from __future__ import annotations

from uuid import UUID

READY = 200_000
CONSUMER = UUID(int=1)

#: A queue with a maximal length, one where nothing waits, and the first one of the broadcast log.
SHORT, EMPTY, LOGGED = 7, 9, 11

#: Every entry of the log is newer than this snapshot, also for the log's own transaction ids.
BEFORE_THE_LOG = "1000:1000:"

TOPOLOGY = """
DO $$ DECLARE t text; BEGIN -- what is dead stays where it is until the test is over
    FOREACH t IN ARRAY ARRAY['message', 'ready', 'unacked', 'delayed', 'broadcast',
        'published'] LOOP
        EXECUTE format('ALTER TABLE celery.%I SET (autovacuum_enabled = off)', t);
    END LOOP;
END $$;
INSERT INTO celery.queue (name, durable, auto_delete, exclusive, arguments, max_length, broadcast_from)
SELECT 'queue' || n, true, false, false, '{}', CASE WHEN n = 7 THEN 100 END,
       CASE WHEN n > 10 THEN '1000:1000:' END FROM generate_series(1, 60) n;
INSERT INTO celery.exchange VALUES ('direct', 'direct', true, false, '{}'),
    ('topic', 'topic', true, false, '{}'), ('fanout', 'fanout', true, false, '{}');
INSERT INTO celery.binding SELECT 'direct', 'key' || id, id, NULL FROM celery.queue WHERE id <= 10;
INSERT INTO celery.binding SELECT 'topic', 'a.' || id || '.*', id, '^a\\.' || id || '\\.[^.]+$'
  FROM celery.queue WHERE id <= 10;
INSERT INTO celery.binding SELECT 'fanout', '', id, NULL FROM celery.queue WHERE id > 10;
INSERT INTO celery.consumer (id, lock_key, pooled, host, pid)
SELECT lpad(to_hex(n), 32, '0')::uuid, n, false, 'host', n FROM generate_series(1, 50) n;
INSERT INTO celery.consumer_queue (consumer_id, tag, queue_id, no_ack, exclusive)
SELECT id, '1.1', 1 + row_number() OVER () % 10, false, false FROM celery.consumer;
"""

# By message id: 50,000 that were consumed and not vacuumed away (of which 5,000 are held and 20,000 wait for
# their time), then the backlog of four queues and ten priorities, in which one of a thousand is past its
# time; at last 150 messages of the queue with a maximal length.
MESSAGES = f"""
INSERT INTO celery.message (uuid, queue_id, priority, expires_at, exchange, routing_key, headers, properties,
                            body)
SELECT lpad(to_hex(n), 32, '0')::uuid,
       CASE WHEN n > {READY + 50_000} THEN {SHORT} ELSE 1 + n % 4 END, n / 4 % 10,
       CASE WHEN n % 1000 = 0 THEN now() - interval '1 s' WHEN n % 100 = 0 THEN now() + interval '1 h' END,
       '', 'queue', '{{}}', '{{}}', convert_to(repeat('x', 200), 'UTF8')
  FROM generate_series(1, {READY + 50_150}) n;
INSERT INTO celery.ready SELECT queue_id, priority, id, 0 FROM celery.message;
DELETE FROM celery.ready WHERE message_id <= 50000;
INSERT INTO celery.unacked SELECT lpad(to_hex(1 + id % 50), 32, '0')::uuid, id, queue_id, priority, 1
  FROM celery.message WHERE id <= 5000;
INSERT INTO celery.delayed SELECT now() + id * interval '1 s' - interval '20020 s', id, queue_id, priority, 0
  FROM celery.message WHERE id > 5000 AND id <= 40000;
DELETE FROM celery.delayed WHERE due_at < now() - interval '20 s';
DELETE FROM celery.message m WHERE id > 5000 AND id <= 20000 OR id > 40000 AND id <= 50000;
INSERT INTO celery.broadcast (xid, exchange, routing_key, headers, properties, body)
SELECT (1000 + n)::text::xid8, 'fanout', '', '{{}}', '{{}}', 'x' FROM generate_series(1, 20000) n;
INSERT INTO celery.published (uuid, published_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, now() - n * interval '10 ms' FROM generate_series(1, 65000) n;
"""
