"""A job that waits or runs again is not what it ended as before."""

from __future__ import annotations

from alembic import context, op

from celery_postgres.migrations.versions.v1_3_job_view import (
    ENDED,
    HOLDER,
    IS_DEAD,
    IS_DELAYED,
    IS_READY,
    RETRIED,
    SPEAKS,
    STATE_OF_RESULT,
)

revision = "1.8"
down_revision = "1.7"

# The views of 1.3, where there is what explains them, but for one thing: which end is that of a message. The
# message of a task that has ended is there again if it was redriven, or if its acknowledgement was lost. An
# end that is older than the claim is that of an earlier run, and what waits has none. A state that is no end
# speaks as before: the RETRY of an attempt is older than its claim. So does an end where there is no claim to
# compare it with: of what is dead, or was held by a consumer that is gone.
#
# Only for an end that is recorded the claim is looked up, and few messages have one.
SPEAKS_NOW = f"""{SPEAKS}
                    AND CASE WHEN r.state NOT IN ('SUCCESS', 'FAILURE', 'REVOKED') THEN true
                             WHEN {IS_READY} OR {IS_DELAYED} THEN false
                             ELSE r.updated_at >= coalesce(
                                 (SELECT max(u.claimed_at) FROM {HOLDER}), m.enqueued_at) END"""

STATE_OF_MESSAGE = f"""CASE
               WHEN {IS_READY}
               THEN CASE WHEN {RETRIED} THEN 'retry' ELSE 'created' END
               WHEN {IS_DELAYED}
               THEN CASE WHEN {RETRIED} THEN 'retry' ELSE 'scheduled' END
               WHEN {IS_DEAD} THEN 'dead'
               ELSE coalesce((SELECT {ENDED} END FROM {{s}}.result r WHERE {SPEAKS_NOW}), 'active')
           END"""

JOB = f"""
CREATE OR REPLACE VIEW {{s}}.job AS
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
           (SELECT r.started_at FROM {{s}}.result r WHERE {SPEAKS_NOW}) AS started_on,
           CASE
               WHEN {IS_READY} OR {IS_DELAYED} THEN NULL
               ELSE coalesce(
                   (SELECT x.died_at FROM {{s}}.dead_letter x WHERE x.message_id = m.id),
                   (SELECT r.finished_at FROM {{s}}.result r WHERE {SPEAKS_NOW}))
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
"""

JOB_STATS = f"""
CREATE OR REPLACE VIEW {{s}}.job_stats AS
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
      LEFT JOIN {{s}}.result r ON {SPEAKS} AND r.updated_at >= u.claimed_at
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
"""


def upgrade() -> None:
    schema = '"' + context.config.attributes["schema"] + '"'
    op.execute((JOB + JOB_STATS).format(s=schema).rstrip("\n;"))
