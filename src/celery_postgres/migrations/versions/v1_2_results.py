"""Results, saved groups and chords; the way to a message by its task."""

from __future__ import annotations

from alembic import context, op

from celery_postgres.migrations.versions.v1_1_messages import SHORT_LIVED

revision = "1.2"
down_revision = "1.1"

DDL = """
CREATE TABLE {s}.result (
    task_id text NOT NULL CONSTRAINT result_pkey PRIMARY KEY,
    state text NOT NULL,
    content_type text NOT NULL,
    content_encoding text NOT NULL,
    meta bytea NOT NULL,
    error text,
    name text,
    queue text,
    worker text,
    retries integer,
    root_id text,
    parent_id text,
    group_id text,
    created_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE INDEX result_created_idx ON {s}.result (created_at);
CREATE INDEX result_expiry_idx ON {s}.result (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON COLUMN {s}.result.meta IS 'what Celery keeps of the task: status, result, traceback, children';
COMMENT ON COLUMN {s}.result.error IS 'exception and its message in short, for people';
COMMENT ON COLUMN {s}.result.created_at IS 'when the task''s message was stored; NULL from another broker';
COMMENT ON COLUMN {s}.result.started_at IS 'when its code began; NULL if nobody told, see task_track_started';

CREATE TABLE {s}.group_result (
    group_id text NOT NULL CONSTRAINT group_result_pkey PRIMARY KEY,
    content_type text NOT NULL,
    content_encoding text NOT NULL,
    meta bytea NOT NULL,
    expires_at timestamptz
);
CREATE INDEX group_result_expiry_idx ON {s}.group_result (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE {s}.chord (
    group_id text NOT NULL CONSTRAINT chord_pkey PRIMARY KEY,
    size integer,
    added integer NOT NULL DEFAULT 0,
    returned integer NOT NULL DEFAULT 0,
    callback bytea,
    dispatched_at timestamptz,
    expires_at timestamptz
) WITH (fillfactor = 50);
CREATE INDEX chord_expiry_idx ON {s}.chord (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON COLUMN {s}.chord.size IS 'how many parts the header has; NULL until the last one is being sent';
COMMENT ON COLUMN {s}.chord.added IS 'how many parts joined while the header ran';
COMMENT ON COLUMN {s}.chord.callback IS 'the body, kept while the size is unknown';
COMMENT ON COLUMN {s}.chord.dispatched_at IS 'when the body was sent: parts that return later change nothing';

CREATE TABLE {s}.chord_part (
    group_id text NOT NULL,
    position integer NOT NULL,
    task_id text NOT NULL,
    state text NOT NULL,
    content_type text NOT NULL,
    content_encoding text NOT NULL,
    meta bytea NOT NULL,
    returned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT chord_part_pkey PRIMARY KEY (group_id, position, task_id)
) {short_lived};

-- For who asks after one task, or cancels it, among a million that wait.
CREATE INDEX message_task_idx ON {s}.message (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX delayed_message_idx ON {s}.delayed (message_id);
"""


def upgrade() -> None:
    schema = '"' + context.config.attributes["schema"] + '"'
    op.execute(DDL.format(s=schema, short_lived=SHORT_LIVED).rstrip("\n;"))
