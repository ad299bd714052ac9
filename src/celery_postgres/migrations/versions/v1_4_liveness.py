"""What tells a dead consumer from one that has only lost its sessions."""

from __future__ import annotations

from alembic import context, op

revision = "1.4"
down_revision = "1.3"

# Workers of the release before know none of this: whatever is new may be NULL, or has a default.
DDL = """
ALTER TABLE {s}.consumer
    ADD beat_key bigint,
    ADD stall_ms bigint NOT NULL DEFAULT 300000,
    ADD epoch uuid,
    ADD host_id text,
    ADD process_started bigint,
    ADD node text,
    ADD pool text;
COMMENT ON COLUMN {s}.consumer.lock_key IS 'the advisory lock of the session that claims';
COMMENT ON COLUMN {s}.consumer.beat_key IS 'the advisory lock of the session that beats';
COMMENT ON COLUMN {s}.consumer.beat_at IS 'changes with each beat: by itself, how long ago tells nothing';
COMMENT ON COLUMN {s}.consumer.stall_ms IS 'after so long without a beat it is fenced, its lock held or not';
COMMENT ON COLUMN {s}.consumer.epoch IS 'the life of the server in which its locks were taken';
COMMENT ON COLUMN {s}.consumer.host_id IS 'equal for processes that can see each other by their process ids';
COMMENT ON COLUMN {s}.consumer.process_started IS 'tells the process from a later one with the same id';

-- A crash and a promotion empty it, as they end every session. A clean restart is told by the server's start.
CREATE UNLOGGED TABLE {s}.epoch (
    one boolean NOT NULL DEFAULT true CONSTRAINT epoch_pkey PRIMARY KEY
        CONSTRAINT epoch_one_check CHECK (one),
    id uuid NOT NULL,
    server_started_at timestamptz NOT NULL,
    sweeper uuid
);
COMMENT ON TABLE {s}.epoch IS 'one row: the present life of the server, and who sweeps in it';
"""


def upgrade() -> None:
    schema = '"' + context.config.attributes["schema"] + '"'
    op.execute(DDL.format(s=schema).rstrip("\n;"))
