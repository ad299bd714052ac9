"""Queues, messages and their states."""

from __future__ import annotations

from alembic import context, op

revision = "1.1"
down_revision = None

# Rows of these tables live for milliseconds. Autovacuum must come by count, not by share of the table,
# and must not stop to rest. Truncating takes ACCESS EXCLUSIVE and would stall every claim.
SHORT_LIVED = """WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)"""

DDL = """
CREATE TABLE {s}.exchange (
    name text NOT NULL CONSTRAINT exchange_pkey PRIMARY KEY,
    type text NOT NULL CONSTRAINT exchange_type_check CHECK (type IN ('direct', 'topic', 'fanout')),
    durable boolean NOT NULL,
    auto_delete boolean NOT NULL,
    arguments text NOT NULL
);
INSERT INTO {s}.exchange VALUES
    ('amq.direct', 'direct', true, false, '{{}}'),
    ('amq.topic', 'topic', true, false, '{{}}'),
    ('amq.fanout', 'fanout', true, false, '{{}}');

CREATE TABLE {s}.queue (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT queue_pkey PRIMARY KEY,
    name text NOT NULL CONSTRAINT queue_name_key UNIQUE,
    durable boolean NOT NULL,
    auto_delete boolean NOT NULL,
    exclusive boolean NOT NULL,
    holder uuid,
    arguments text NOT NULL,
    message_ttl_ms bigint,
    expires_ms bigint,
    max_length bigint,
    max_length_bytes bigint,
    max_priority smallint,
    dead_letter_exchange text,
    dead_letter_routing_key text,
    broadcast_from text,
    consumed boolean NOT NULL DEFAULT false,
    used_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN {s}.queue.broadcast_from IS
    'set where messages go to the broadcast log: the snapshot at declaration, before which nothing is read';

CREATE TABLE {s}.binding (
    exchange text NOT NULL REFERENCES {s}.exchange (name) ON DELETE CASCADE,
    routing_key text NOT NULL,
    queue_id bigint NOT NULL REFERENCES {s}.queue (id) ON DELETE CASCADE,
    pattern text,
    CONSTRAINT binding_pkey PRIMARY KEY (exchange, routing_key, queue_id)
);
COMMENT ON COLUMN {s}.binding.pattern IS 'the topic pattern as a regular expression';
CREATE INDEX binding_queue_idx ON {s}.binding (queue_id);

CREATE TABLE {s}.message (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT message_pkey PRIMARY KEY,
    uuid uuid NOT NULL,
    queue_id bigint NOT NULL,
    priority smallint NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    exchange text NOT NULL,
    routing_key text NOT NULL,
    task text,
    task_id text,
    content_type text,
    content_encoding text,
    headers text NOT NULL,
    properties text NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT message_uuid_key UNIQUE (uuid, queue_id)
) {short_lived};
CREATE INDEX message_expiry_idx ON {s}.message (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON COLUMN {s}.message.uuid IS
    'made once per publish call: a publish that is retried after an unknown outcome stores nothing twice';
COMMENT ON COLUMN {s}.message.headers IS 'escaped JSON text, never jsonb, which refuses \\u0000';

CREATE TABLE {s}.ready (
    queue_id bigint NOT NULL,
    priority smallint NOT NULL,
    message_id bigint NOT NULL,
    deliveries integer NOT NULL
) {short_lived};
CREATE UNIQUE INDEX ready_claim_idx ON {s}.ready (queue_id, priority DESC, message_id);
-- Without a primary key, a publication for all tables would forbid every claim.
ALTER TABLE {s}.ready REPLICA IDENTITY USING INDEX ready_claim_idx;

CREATE TABLE {s}.unacked (
    consumer_id uuid NOT NULL,
    message_id bigint NOT NULL,
    queue_id bigint NOT NULL,
    priority smallint NOT NULL,
    deliveries integer NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT unacked_pkey PRIMARY KEY (consumer_id, message_id)
) {short_lived};

CREATE TABLE {s}.delayed (
    due_at timestamptz NOT NULL,
    message_id bigint NOT NULL,
    queue_id bigint NOT NULL,
    priority smallint NOT NULL,
    deliveries integer NOT NULL,
    CONSTRAINT delayed_pkey PRIMARY KEY (due_at, message_id)
) {short_lived};

CREATE TABLE {s}.dead_letter (
    message_id bigint NOT NULL CONSTRAINT dead_letter_pkey PRIMARY KEY,
    queue text,
    reason text NOT NULL,
    died_at timestamptz NOT NULL DEFAULT now(),
    deliveries integer NOT NULL
);

-- A sequence of its own: that of an unlogged identity column starts again after a crash.
CREATE SEQUENCE {s}.broadcast_id_seq;
CREATE UNLOGGED TABLE {s}.broadcast (
    id bigint NOT NULL DEFAULT nextval('{s}.broadcast_id_seq') CONSTRAINT broadcast_pkey PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    published_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    exchange text NOT NULL,
    routing_key text NOT NULL,
    content_type text,
    content_encoding text,
    headers text NOT NULL,
    properties text NOT NULL,
    body bytea NOT NULL
) {short_lived};
CREATE INDEX broadcast_xid_idx ON {s}.broadcast (xid, id);

CREATE TABLE {s}.consumer (
    id uuid NOT NULL CONSTRAINT consumer_pkey PRIMARY KEY,
    lock_key bigint NOT NULL,
    pooled boolean NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    beat_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE {s}.consumer_queue (
    consumer_id uuid NOT NULL REFERENCES {s}.consumer (id) ON DELETE CASCADE,
    tag text NOT NULL,
    queue_id bigint NOT NULL REFERENCES {s}.queue (id) ON DELETE CASCADE,
    no_ack boolean NOT NULL,
    exclusive boolean NOT NULL,
    CONSTRAINT consumer_queue_pkey PRIMARY KEY (consumer_id, tag)
);
CREATE INDEX consumer_queue_queue_idx ON {s}.consumer_queue (queue_id);
"""


def upgrade() -> None:
    schema = '"' + context.config.attributes["schema"] + '"'
    op.execute(DDL.format(s=schema, short_lived=SHORT_LIVED).rstrip("\n;"))
