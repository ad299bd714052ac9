"""What people look at: a row per job, a row per queue."""

from __future__ import annotations

from alembic import context, op

revision = "1.3"
down_revision = "1.2"

# The state of a message is the table in which its key lies: what is in none of `ready`, `delayed` and
# `dead_letter` is claimed. That is told by exclusion, because `unacked` has no index by message alone; its
# row is found through the few consumers.
#
# Headers are text that may hold what no jsonb takes. Their keys are found by a regular expression: a quote
# inside a JSON string is escaped, so `"retries": ` is a key. The plain search in front is five times as fast.
#
# A row of `result` speaks of a message if it was written after the message was stored. One that is older is
# of an earlier task that had the same id.
RETRIED = """(strpos(m.headers, '"retries": 0,') = 0 AND m.headers ~ '"retries": [1-9]')"""
IS_READY = """(SELECT true FROM {s}.ready w
                     WHERE w.queue_id = m.queue_id AND w.priority = m.priority AND w.message_id = m.id)"""
IS_DELAYED = "(SELECT true FROM {s}.delayed d WHERE d.message_id = m.id)"
IS_DEAD = "(SELECT true FROM {s}.dead_letter x WHERE x.message_id = m.id)"
SPEAKS = "r.task_id = m.task_id AND r.updated_at >= m.enqueued_at"
HOLDER = "{s}.consumer c JOIN {s}.unacked u ON u.consumer_id = c.id AND u.message_id = m.id"

ENDED = """CASE r.state WHEN 'SUCCESS' THEN 'completed' WHEN 'FAILURE' THEN 'failed'
                             WHEN 'REVOKED' THEN 'cancelled'"""
STATE_OF_MESSAGE = f"""CASE
               WHEN {IS_READY}
               THEN CASE WHEN {RETRIED} THEN 'retry' ELSE 'created' END
               WHEN {IS_DELAYED}
               THEN CASE WHEN {RETRIED} THEN 'retry' ELSE 'scheduled' END
               WHEN {IS_DEAD} THEN 'dead'
               ELSE coalesce((SELECT {ENDED} END FROM {{s}}.result r WHERE {SPEAKS}), 'active')
           END"""
# A retry always has a message while it waits. If there is none, it runs; or the broker is another one.
STATE_OF_RESULT = f"""{ENDED}
                WHEN 'RETRY' THEN CASE WHEN r.created_at IS NULL THEN 'retry' ELSE 'active' END
                ELSE 'active' END"""

# Each half of `job` reads one table, without a join and without a condition of its own, and looks everything
# else up in its columns. Only so the planner treats the two as one table: it finds an id by an index of each,
# walks both in the order of created_on and stops at a LIMIT, and computes no column that nobody asks for.
# A lookup is one step down an index, so a row costs the same however long the backlog is. It is a SELECT true
# and no EXISTS, for which the planner may read a whole table first, to have all answers at hand.
JOB = f"""
CREATE INDEX message_enqueued_idx ON {{s}}.message (enqueued_at) WHERE task_id IS NOT NULL;

CREATE VIEW {{s}}.job AS
SELECT id, name, queue, state, priority, deliveries, retries, created_on, started_on, completed_on, worker,
       tracked
  FROM (
    SELECT m.task_id AS id,
           m.task AS name,
           coalesce((SELECT q.name FROM {{s}}.queue q WHERE q.id = m.queue_id),
                    (SELECT x.queue FROM {{s}}.dead_letter x WHERE x.message_id = m.id)) AS queue,
           {STATE_OF_MESSAGE} AS state,
           m.priority,
           coalesce(
               (SELECT w.deliveries FROM {{s}}.ready w
                 WHERE w.queue_id = m.queue_id AND w.priority = m.priority AND w.message_id = m.id),
               (SELECT d.deliveries FROM {{s}}.delayed d WHERE d.message_id = m.id),
               (SELECT x.deliveries FROM {{s}}.dead_letter x WHERE x.message_id = m.id),
               (SELECT max(u.deliveries) FROM {HOLDER})) AS deliveries,
           substring(m.headers FROM '"retries": ([0-9]{{{{1,9}}}})')::integer AS retries,
           m.enqueued_at AS created_on,
           (SELECT r.started_at FROM {{s}}.result r WHERE {SPEAKS}) AS started_on,
           CASE
               WHEN {IS_READY} OR {IS_DELAYED} THEN NULL
               ELSE coalesce(
                   (SELECT x.died_at FROM {{s}}.dead_letter x WHERE x.message_id = m.id),
                   (SELECT r.finished_at FROM {{s}}.result r WHERE {SPEAKS}))
           END AS completed_on,
           CASE
               WHEN {IS_READY} OR {IS_DELAYED} THEN NULL
               ELSE (SELECT max(c.host || ':' || c.pid) FROM {HOLDER})
           END AS worker,
           CASE
               WHEN (SELECT true FROM {{s}}.result r WHERE {SPEAKS}) THEN true
               WHEN m.headers ~ '"ignore_result": true' THEN false
           END AS tracked,
           NOT EXISTS (SELECT FROM {{s}}.message n WHERE n.task_id = m.task_id AND n.id > m.id) AS latest
      FROM {{s}}.message m
    UNION ALL
    SELECT r.task_id, r.name, r.queue,
           {STATE_OF_RESULT},
           NULL::smallint, NULL::integer, r.retries, r.created_at, r.started_at, r.finished_at, r.worker,
           true,
           (SELECT true FROM {{s}}.message m WHERE m.task_id = r.task_id LIMIT 1) IS NULL
      FROM {{s}}.result r
  ) AS known
 WHERE id IS NOT NULL AND latest;
COMMENT ON VIEW {{s}}.job IS 'one row per task that waits, runs or has ended, as far as is known';
COMMENT ON COLUMN {{s}}.job.tracked IS
    'whether its states are recorded in result: true if one is, false if it is sent with ignore_result';
"""

# For counting, a million lookups are too many: the same states from joins, which read each table once. What
# `job` leaves out by looking at each row is subtracted here: the older messages of tasks that have several.
JOB_STATS = f"""
CREATE VIEW {{s}}.job_stats AS
SELECT state, sum(number)::bigint AS jobs FROM (
    SELECT CASE WHEN {RETRIED} THEN 'retry' WHEN d.message_id IS NOT NULL THEN 'scheduled'
                ELSE 'created' END AS state, count(*) AS number
      FROM {{s}}.message m
      LEFT JOIN {{s}}.delayed d ON d.message_id = m.id
      LEFT JOIN {{s}}.dead_letter x ON x.message_id = m.id
      LEFT JOIN {{s}}.unacked u ON u.message_id = m.id
     WHERE m.task_id IS NOT NULL AND x.message_id IS NULL AND u.message_id IS NULL
     GROUP BY 1
    UNION ALL
    SELECT 'dead', count(*)
      FROM {{s}}.dead_letter x JOIN {{s}}.message m ON m.id = x.message_id WHERE m.task_id IS NOT NULL
    UNION ALL
    SELECT coalesce({ENDED} END, 'active'), count(*)
      FROM {{s}}.unacked u JOIN {{s}}.message m ON m.id = u.message_id
      LEFT JOIN {{s}}.result r ON {SPEAKS}
     WHERE m.task_id IS NOT NULL
     GROUP BY 1
    UNION ALL
    SELECT {STATE_OF_MESSAGE}, -1
      FROM (SELECT task_id FROM {{s}}.message WHERE task_id IS NOT NULL
             GROUP BY task_id HAVING count(*) > 1) AS sent
     CROSS JOIN LATERAL (
        SELECT * FROM {{s}}.message n WHERE n.task_id = sent.task_id ORDER BY n.id DESC OFFSET 1) AS m
    UNION ALL
    SELECT {STATE_OF_RESULT}, count(*)
      FROM {{s}}.result r WHERE NOT EXISTS (SELECT FROM {{s}}.message m WHERE m.task_id = r.task_id)
     GROUP BY 1
  ) AS counted
 GROUP BY state HAVING sum(number) > 0;
COMMENT ON VIEW {{s}}.job_stats IS 'how many rows job has in each state, counted in a faster way';
"""

# The oldest of each priority is the first of its index range, so one step down the index for each priority
# finds the oldest of a queue. Queues of the broadcast log have no rows, and one for each client that asks
# workers something: they are left out.
QUEUE_STATS = """
CREATE VIEW {s}.queue_stats AS
SELECT q.name AS queue,
       (SELECT count(*) FROM {s}.ready w WHERE w.queue_id = q.id) AS ready,
       coalesce(d.number, 0) AS delayed,
       coalesce(u.number, 0) AS unacked,
       coalesce(x.number, 0) AS dead,
       (WITH RECURSIVE lane (priority, message_id) AS (
            (SELECT w.priority, w.message_id FROM {s}.ready w WHERE w.queue_id = q.id
              ORDER BY w.priority DESC, w.message_id LIMIT 1)
            UNION ALL
            SELECT n.priority, n.message_id FROM lane CROSS JOIN LATERAL (
                SELECT w.priority, w.message_id FROM {s}.ready w
                 WHERE w.queue_id = q.id AND w.priority < lane.priority
                 ORDER BY w.priority DESC, w.message_id LIMIT 1) AS n
        )
        SELECT extract(epoch FROM now() - min(m.enqueued_at))::double precision
          FROM lane JOIN {s}.message m ON m.id = lane.message_id) AS oldest_s,
       (SELECT count(*) FROM {s}.consumer_queue c WHERE c.queue_id = q.id) AS consumers
  FROM {s}.queue q
  LEFT JOIN (SELECT queue_id, count(*) AS number FROM {s}.delayed GROUP BY queue_id) AS d
    ON d.queue_id = q.id
  LEFT JOIN (SELECT queue_id, count(*) AS number FROM {s}.unacked GROUP BY queue_id) AS u
    ON u.queue_id = q.id
  LEFT JOIN (SELECT queue, count(*) AS number FROM {s}.dead_letter GROUP BY queue) AS x ON x.queue = q.name
 WHERE q.broadcast_from IS NULL;
COMMENT ON VIEW {s}.queue_stats IS 'one row per queue of messages';
COMMENT ON COLUMN {s}.queue_stats.oldest_s IS 'how long ago the oldest ready message was stored, in seconds';
"""


def upgrade() -> None:
    schema = '"' + context.config.attributes["schema"] + '"'
    op.execute((JOB + JOB_STATS + QUEUE_STATS).format(s=schema).rstrip("\n;"))
