"""A database with many jobs in every state, made in a few seconds."""

from __future__ import annotations

JOBS = 100_000

TOPOLOGY = """
INSERT INTO celery.queue (name, durable, auto_delete, exclusive, arguments, broadcast_from)
SELECT 'queue' || n, true, false, false, '{}', CASE WHEN n > 10 THEN '1000:1000:' END
  FROM generate_series(1, 60) n;
INSERT INTO celery.consumer (id, lock_key, pooled, host, pid)
SELECT lpad(to_hex(n), 32, '0')::uuid, n, false, 'host', n FROM generate_series(1, 20) n;
INSERT INTO celery.consumer_queue (consumer_id, tag, queue_id, no_ack, exclusive)
SELECT id, '1.1', 1 + row_number() OVER () % 10, false, false FROM celery.consumer;
"""

# Of the messages, by id: each 100th is held for later, 1,000 are claimed, 200 are dead, the rest waits; each
# 300th is a retry. Of the results each 10th has failed, each 1,000th is of a task that runs. Task ids are
# scattered as random ones are. `message 77` waits, `result 77` has ended.
JOBS_AND_RESULTS = f"""
INSERT INTO celery.message (uuid, queue_id, priority, enqueued_at, exchange, routing_key, task, task_id,
                            headers, properties, body)
SELECT lpad(to_hex(n), 32, '0')::uuid, 1 + n % 10, n / 10 % 4, now() - n * interval '1 s', '', 'queue',
       'greet', CASE n WHEN 77 THEN 'message 77' ELSE md5(n::text) END,
       '{{"lang": "py", "task": "greet", "retries": ' || (n % 300 = 0)::int || ', "ignore_result": false}}',
       '{{}}', convert_to(repeat('x', 200), 'UTF8')
  FROM generate_series(1, {JOBS}) n;
INSERT INTO celery.unacked SELECT lpad(to_hex(1 + id % 20), 32, '0')::uuid, id, queue_id, priority, 1
  FROM celery.message WHERE id % 100 = 1;
INSERT INTO celery.dead_letter SELECT id, 'queue1', 'rejected', now(), 1
  FROM celery.message WHERE id % 500 = 2;
INSERT INTO celery.delayed SELECT now() + id * interval '1 s', id, queue_id, priority, 0
  FROM celery.message WHERE id % 100 = 0;
INSERT INTO celery.ready SELECT queue_id, priority, id, 0
  FROM celery.message WHERE id % 100 NOT IN (0, 1) AND id % 500 <> 2;
INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta, name, queue, created_at,
                           finished_at)
SELECT CASE n WHEN 77 THEN 'result 77' ELSE md5('r' || n) END,
       CASE WHEN n % 1000 = 0 THEN 'STARTED' WHEN n % 10 = 0 THEN 'FAILURE' ELSE 'SUCCESS' END,
       'application/json', 'utf-8', convert_to(repeat('x', 200), 'UTF8'), 'greet', 'queue',
       now() - n * interval '1 s', now()
  FROM generate_series(1, {JOBS}) n;
"""

# All that is claimed, and a tenth of what waits or is dead, with the newest, has ended before.
ENDED_BEFORE = """
INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta, created_at, started_at,
                           finished_at, updated_at)
SELECT task_id, 'FAILURE', 'application/json', 'utf-8', '', enqueued_at, enqueued_at, enqueued_at, enqueued_at
  FROM celery.message WHERE id <= 100 OR id % 10 = 1;
ANALYZE celery.result
"""
